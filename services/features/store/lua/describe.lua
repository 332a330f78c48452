-- Stores people's attributes.
--
-- KEYS  1 gone  2 users, then for each person: person
-- ARGV  for each person: user id, keyed hash, attributes
-- Returns one digit a person: 1 stored, 3 refused (an erased person who has not acted again)
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local statuses = {}
for n = 1, #ARGV / 3 do
  local person = KEYS[n + 2]
  if redis.call('HEXISTS', KEYS[1], ARGV[3 * n - 1]) == 1 and redis.call('EXISTS', person) == 0 then
    statuses[n] = '3'
  else
    redis.call('HSET', person, 'a', ARGV[3 * n], 't', now_ms)
    redis.call('SADD', KEYS[2], ARGV[3 * n - 2])
    statuses[n] = '1'
  end
end
return table.concat(statuses)
