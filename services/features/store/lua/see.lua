-- Adds items to a person's seen set without events (folding one person into another).
--
-- KEYS  1 seen
-- ARGV  1 cap, then pairs: time_ms, item id
for at = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', ARGV[at], ARGV[at + 1])
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -tonumber(ARGV[1]) - 1)
return 1
