-- Stores relations of one owner shard, and notes each as unfinished until the other side has it.
--
-- KEYS  1 gone  2 jobs  3 users  4 lock, then for each owner: person, forward, closed
-- ARGV  1 cap of relations a person  2 "1" where a merge relates them, which says nothing of how idle they are
--       3 the merge's token, which the lock must hold ("" = none of the shard)
--       4 number of owners, for each owner: user id, keyed hash
--       for each relation: owner (1..), field, packed, time_ms, removed (0/1), job field
-- Returns  one digit a relation: 1 stored, 2 to be removed and not there, 3 refused (an erased person), 4 over the
--          cap, 5 the owner is just being erased or merged: what is written now would go with what they were, or
--          keep their merge from its end, 8 (all) the lock is lost
--          for each owner: the version of their relations (`keys.py`), as this leaves it
local cap, by_merge, owners = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[4])
local first = 4 + 2 * owners
if #KEYS ~= 4 + 3 * owners or (#ARGV - first) % 6 ~= 0 then
  return redis.error_reply('ERR relate: wrong number of keys or arguments')
end
if ARGV[3] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[3] then
  return { string.rep('8', (#ARGV - first) / 6) }
end
local clock = redis.call('TIME')
local now_us = string.format('%.0f', clock[1] * 1000000 + clock[2])
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local statuses = {}
for at = first + 1, #ARGV, 6 do
  local owner = tonumber(ARGV[at])
  local user, hash = ARGV[3 + 2 * owner], ARGV[4 + 2 * owner]
  local person, forward, closed = KEYS[2 + 3 * owner], KEYS[3 + 3 * owner], KEYS[4 + 3 * owner]
  local gone = tonumber(redis.call('HGET', KEYS[1], hash) or '')
  local time, removed = tonumber(ARGV[at + 3]), ARGV[at + 4] == '1'
  local back_again = gone and (time > gone or redis.call('EXISTS', person) == 1)
  local held = redis.call('HEXISTS', forward, ARGV[at + 1]) == 1
  local waits = not by_merge and redis.call('EXISTS', closed) == 1
  if waits or redis.call('HEXISTS', KEYS[2], 'x:' .. user) == 1 then
    statuses[#statuses + 1] = '5'
  elseif gone and not back_again and not removed then
    statuses[#statuses + 1] = '3'
  elseif removed and not held then
    statuses[#statuses + 1] = '2'
  elseif not held and redis.call('HLEN', forward) >= cap then
    statuses[#statuses + 1] = '4'
  else
    redis.call('HSET', KEYS[2], ARGV[at + 5], '')
    redis.call('HSETNX', person, 'b', now_us)
    redis.call('HINCRBY', person, 'o', 1)
    redis.call('HINCRBY', person, 'r', 1)
    if not by_merge then
      redis.call('HSET', person, 't', now_ms)
    end
    redis.call('SADD', KEYS[3], user)
    redis.call('HSET', forward, ARGV[at + 1], ARGV[at + 2])
    statuses[#statuses + 1] = '1'
  end
end
local reply = { table.concat(statuses) }
for owner = 1, owners do
  local version = redis.call('HMGET', KEYS[2 + 3 * owner], 'b', 'o')
  reply[owner + 1] = (version[1] or '') .. ':' .. (version[2] or '')
end
return reply
