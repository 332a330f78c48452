-- Notes that a newer server writes a domain's keys from now on. Numbers only ever rise: an older server that
-- works beside it, or after a rollback, leaves them.
--
-- KEYS  1 schema
-- ARGV  1 version  2 oldest server version that may use it
-- Returns 1 where that is news, else 0
local version = tonumber(redis.call('HGET', KEYS[1], 'version'))
if not version or version >= tonumber(ARGV[1]) then
  return 0
end
local oldest = tonumber(redis.call('HGET', KEYS[1], 'oldest'))
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'oldest', math.max(oldest, tonumber(ARGV[2])))
return 1
