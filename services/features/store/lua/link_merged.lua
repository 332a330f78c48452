-- Notes at a person who is merged into them: who is erased takes those along.
--
-- KEYS  1 person  2 merged from  3 gone  4 lock
-- ARGV  1 keyed hash of the person  2 the merge's token, which the lock must hold  3 ..: shard and keyed hash of each
-- Returns 1; 0 where this person was erased, and nothing later has begun a new one; 8 where the lock is lost
if redis.call('GET', KEYS[4]) ~= ARGV[2] then
  return 8
end
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 and redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
for at = 3, #ARGV do
  if redis.call('SADD', KEYS[2], ARGV[at]) == 1 then
    redis.call('HINCRBY', KEYS[1], 'r', 1) -- whoever is just folding this person on begins again
  end
end
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 't', string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000)))
return 1
