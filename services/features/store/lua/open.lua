-- Opens a domain: writes the schema where there is none, and answers what holds.
--
-- KEYS  1 schema
-- ARGV  1 version  2 oldest server version that may use it  3 shards  4 epoch  5 secret to use where
--       none is configured
-- Returns {version, oldest, shards, epoch, secret}
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'oldest', ARGV[2], 'shards', ARGV[3], 'epoch', ARGV[4],
    'secret', ARGV[5])
end
return redis.call('HMGET', KEYS[1], 'version', 'oldest', 'shards', 'epoch', 'secret')
