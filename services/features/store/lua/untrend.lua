-- Takes weights out of a trending set again: an item that had no other weight goes.
--
-- KEYS  1 weights
-- ARGV  pairs: item id, log2 of the weight to take out
local LEFT = 1e-9 -- less than this part of a weight is rounding
for at = 1, #ARGV, 2 do
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
return 1
