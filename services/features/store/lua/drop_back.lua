-- Takes a relation of another out of a person's, unless it has been written again.
--
-- KEYS  1 back
-- ARGV  1 field  2 its value as it was found
-- Returns 1 where it is gone; 0 where it is another's writing.
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value and value ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
