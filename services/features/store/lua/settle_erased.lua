-- The store's files have been written anew.
--
-- KEYS  1 erasures
-- ARGV  1 count before that was begun  2 when it was begun, ms: since then others may have been noted
redis.call('HDEL', KEYS[1], 'begun')
if redis.call('HGET', KEYS[1], 'count') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'first')
else
  redis.call('HSET', KEYS[1], 'first', ARGV[2])
end
return 1
