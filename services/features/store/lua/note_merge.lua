-- Notes a merge at one of its people.
--
-- KEYS  1 jobs  2 lock
-- ARGV  1 job field  2 value  3 the merge's token, which the lock must hold
-- Returns 1, 0 where the lock is lost: another merge may have noted itself there.
if redis.call('GET', KEYS[2]) ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
