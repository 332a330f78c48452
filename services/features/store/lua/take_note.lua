-- Makes the note of an unfinished relation another server's.
--
-- KEYS  1 jobs
-- ARGV  1 job field  2 the same, of whoever takes it over
-- Returns 1; 0 where somebody else has it, or has ended it.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[2], '')
return 1
