-- Whom somebody was merged into has been erased: what they did before the merge counts as erased, too.
--
-- KEYS  1 gone  2 merges  3 known of the merged
-- ARGV  1 keyed hash  2 when they were merged, as it was found: later merges are of a later life
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
  local before = redis.call('HGET', KEYS[1], ARGV[1])
  if not before or tonumber(before) < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  end
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('UNLINK', KEYS[3])
end
return 1
