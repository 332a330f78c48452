-- The other side of relations: who is related to the people of this shard.
--
-- KEYS  1 gone  2 jobs  3 lock, then for each relation: the other's person, back, closed, taken over
-- ARGV  1 "1" where a merge relates them, which waits for no other merge  2 token of this writing
--       3 the merge's token, which the lock must hold ("" = none of the shard)
--       for each relation: the other's id, keyed hash, field, time_ms
-- Returns one digit a relation: 1 stored, 3 refused (an erased person), 5 the other is just being erased
--          or merged, 7 the note was taken over: what is written now might stay for ever, 8 (all)
--          the lock is lost
local statuses = {}
if ARGV[3] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[3] then
  return string.rep('8', (#ARGV - 3) / 4)
end
for n = 1, (#ARGV - 3) / 4 do
  local user, hash, field, time = ARGV[4 * n], ARGV[4 * n + 1], ARGV[4 * n + 2], tonumber(ARGV[4 * n + 3])
  local person, back, closed = KEYS[4 * n], KEYS[4 * n + 1], KEYS[4 * n + 2]
  local gone = tonumber(redis.call('HGET', KEYS[1], hash) or '')
  local waits = ARGV[1] ~= '1' and redis.call('EXISTS', closed) == 1
  if redis.call('EXISTS', KEYS[4 * n + 3]) == 1 then
    statuses[n] = '7'
  elseif waits or redis.call('HEXISTS', KEYS[2], 'x:' .. user) == 1 then
    statuses[n] = '5'
  elseif gone and not (time > gone or redis.call('EXISTS', person) == 1) then
    statuses[n] = '3'
  else
    redis.call('HSET', back, field, ARGV[2])
    redis.call('HINCRBY', person, 'r', 1) -- also of one that was there: a merge must see what it says now
    statuses[n] = '1'
  end
end
return table.concat(statuses)
