-- The other side of relations: who is related to the people of this shard.
--
-- KEYS  1 gone, then for each relation: the other's person, back
-- ARGV  for each relation: the other's keyed hash, field, time_ms
-- Returns one digit a relation: 1 stored, 3 refused (an erased person)
local statuses = {}
for n = 1, #ARGV / 3 do
  local hash, field, time = ARGV[3 * n - 2], ARGV[3 * n - 1], tonumber(ARGV[3 * n])
  local person, back = KEYS[2 * n], KEYS[2 * n + 1]
  local gone = tonumber(redis.call('HGET', KEYS[1], hash) or '')
  if gone and not (time > gone or redis.call('EXISTS', person) == 1) then
    statuses[n] = '3'
  else
    if redis.call('HSET', back, field, '') == 1 then
      redis.call('HINCRBY', person, 'r', 1)
    end
    statuses[n] = '1'
  end
end
return table.concat(statuses)
