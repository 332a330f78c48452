-- Takes a field out of a hash, unless it has been written again.
--
-- KEYS  1 hash
-- ARGV  1 field  2 its value as it was found
-- Returns 1 where it is gone; 0 where it has another value now.
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value and value ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
