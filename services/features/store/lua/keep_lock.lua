-- A merge's lock, for some time more.
--
-- KEYS  1 lock
-- ARGV  1 token  2 for how long, ms
-- Returns 1; 0 where it has gone by itself, or is another's by now.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
