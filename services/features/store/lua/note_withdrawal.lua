-- Turns "still to be read" into what is to be withdrawn from trends, once, and drops what it was read from.
--
-- KEYS  1 jobs  2 detached history
-- ARGV  1 user id  2 token  3 what is to be withdrawn ("" = nothing)
if redis.call('HGET', KEYS[1], 'w:' .. ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], 'w:' .. ARGV[1])
  if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[1], 't:' .. ARGV[2], ARGV[3])
  end
  redis.call('UNLINK', KEYS[2])
end
return 1
