-- Adds weights to a trending set. A score is the base-2 logarithm of the sum of 2^(t/half-life)·w
-- over an item's events (forward decay: Cormode et al., 2009). Logarithms keep it exact and finite
-- over any number of years, and order items as the decayed sums do at any moment.
--
-- KEYS  1 weights
-- ARGV  1 cap  2 seconds until an untouched set goes, then pairs: item id, log2 of the weight to add
local cap = tonumber(ARGV[1])
for at = 3, #ARGV, 2 do
  local added = tonumber(ARGV[at + 1])
  local held = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or '')
  local sum = added
  if held then
    local large, small = math.max(held, added), math.min(held, added)
    sum = large + math.log(1 + 2 ^ (small - large)) / math.log(2)
  end
  redis.call('ZADD', KEYS[1], string.format('%.17g', sum), ARGV[at])
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -cap - 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
