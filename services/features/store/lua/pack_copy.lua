-- Copies a stretch of a log to where it is packed anew.
--
-- KEYS  1 log  2 copy
-- ARGV  1 first id  2 entries to copy  3 seconds after which a copy that nobody finishes goes
-- Returns id of the last entry copied where there are more, else ""
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
for _, entry in ipairs(entries) do
  redis.call('XADD', KEYS[2], entry[1], unpack(entry[2]))
end
redis.call('EXPIRE', KEYS[2], ARGV[3])
if #entries == tonumber(ARGV[2]) then
  return entries[#entries][1]
end
return ''
