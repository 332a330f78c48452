-- Notes that bytes went that the store's files may still hold.
--
-- KEYS  1 erasures
-- ARGV  1 now_ms
redis.call('HSETNX', KEYS[1], 'first', ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'count', 1)
