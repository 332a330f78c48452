-- Takes entries whose event happened before a moment out of a stretch of a log.
--
-- KEYS  1 log  2 state
-- ARGV  1 first id  2 entries to look at  3 the moment, ms  4 field of the state that counts the times entries
--       were cut out of this log
-- Returns {id to go on after, or "" at the end; entries that were taken out}
local TIME_AT = 10 -- of the event record: action u8, value f64, time i64
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local oldest, cut = tonumber(ARGV[3]), 0
for _, entry in ipairs(entries) do
  if struct.unpack('<i8', entry[2][4], TIME_AT) < oldest then
    cut = cut + redis.call('XDEL', KEYS[1], entry[1])
  end
end
if cut > 0 then
  redis.call('HINCRBY', KEYS[2], ARGV[4], 1)
end
local more = ''
if #entries == tonumber(ARGV[2]) then
  more = entries[#entries][1]
end
return { more, cut }
