-- Ends the job of `forget.lua`, once all that it asked for has been done.
--
-- KEYS  1 jobs  2 detached forward  3 detached back  4 detached marks of merged people
-- ARGV  1 job field  2 the job that was done
-- Returns 1 where it was that; 0 where another server has ended it meanwhile: what is there now is of a later
-- erasure, and not done.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
