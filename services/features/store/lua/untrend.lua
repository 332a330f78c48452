-- Takes weights out of a trending set again: an item that had no other weight goes. A withdrawal may come in
-- several parts, and each again after a crash: the mark says how many of them are done.
--
-- KEYS  1 weights  2 the withdrawal's mark
-- ARGV  1 number of the part, from 1  2 seconds that the mark is kept, then pairs: item id, log2 of the weight
--       to take out
local LEFT = 1e-9 -- less than this part of a weight is rounding
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[1]) then
  return 0
end
for at = 3, #ARGV, 2 do
  local held = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or '')
  if held then
    local left = 1 - 2 ^ (tonumber(ARGV[at + 1]) - held)
    if left > LEFT then
      redis.call('ZADD', KEYS[1], string.format('%.17g', held + math.log(left) / math.log(2)), ARGV[at])
    else
      redis.call('ZREM', KEYS[1], ARGV[at])
    end
  end
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
