-- Takes a relation out of its owner's, unless they have written any since it was looked at.
--
-- KEYS  1 person  2 forward
-- ARGV  1 field  2 version of their relations and 3 the relation, as they were found (servers of before version 2
--       of the store write without counting)
-- Returns 1 where it is gone; 0 where they have.
local version = redis.call('HMGET', KEYS[1], 'b', 'o')
if (version[1] or '') .. ':' .. (version[2] or '') ~= ARGV[2] then
  return 0
end
local packed = redis.call('HGET', KEYS[2], ARGV[1])
if packed and packed ~= ARGV[3] then
  return 0
end
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
