-- Adds items to a person's seen set without events (folding one person into another).
--
-- KEYS  1 gone  2 person  3 seen  4 lock
-- ARGV  1 keyed hash  2 cap  3 the merge's token, which the lock must hold, then pairs: time_ms, item id
-- Returns 1 added, 0 refused (an erased person who has not acted again), 8 the lock is lost
if redis.call('GET', KEYS[4]) ~= ARGV[3] then
  return 8
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 and redis.call('EXISTS', KEYS[2]) == 0 then
  return 0
end
for at = 4, #ARGV, 2 do
  redis.call('ZADD', KEYS[3], 'GT', ARGV[at], ARGV[at + 1])
end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[2]) - 1)
return 1
