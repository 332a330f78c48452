-- Puts a log's copy in its place, with what has come since, unless entries were cut out of the log meanwhile.
--
-- KEYS  1 log  2 copy  3 state
-- ARGV  1 field that counts cuts  2 cuts before the copy was begun  3 field that says of which cut the log was
--       packed
-- Returns 1 done, 0 cut meanwhile: the copy is dropped
if (redis.call('HGET', KEYS[3], ARGV[1]) or '0') ~= ARGV[2] then
  redis.call('UNLINK', KEYS[2])
  return 0
end
local copied = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local first = copied[1] and '(' .. copied[1][1] or '-'
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], first, '+')) do
  redis.call('XADD', KEYS[2], entry[1], unpack(entry[2]))
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  local about = redis.call('XINFO', 'STREAM', KEYS[1])
  for n = 1, #about, 2 do
    if about[n] == 'last-generated-id' then
      redis.call('XSETID', KEYS[2], about[n + 1])
    end
  end
  redis.call('PERSIST', KEYS[2])
  redis.call('RENAME', KEYS[2], KEYS[1])
end
redis.call('HSET', KEYS[3], ARGV[3], ARGV[2])
return 1
