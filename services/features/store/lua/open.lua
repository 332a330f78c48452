-- Opens a domain: writes the schema where there is none, and answers what holds.
--
-- KEYS  1 schema
-- ARGV  1 version  2 oldest server version that may use it  3 shards  4 epoch  5 secret to use where
--       none is configured
-- Returns {version, oldest, shards, epoch, secret, began_ms}
--
-- began_ms: since when this incarnation knows who was erased, by the store's clock. A schema of before the
-- field may have been written again into a store that had lost its erasures: it is sure to know from now on.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'oldest', ARGV[2], 'shards', ARGV[3], 'epoch', ARGV[4],
    'secret', ARGV[5])
end
local now = redis.call('TIME')
redis.call('HSETNX', KEYS[1], 'began_ms', string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)))
return redis.call('HMGET', KEYS[1], 'version', 'oldest', 'shards', 'epoch', 'secret', 'began_ms')
