-- Reads or erases one person's entries in a stretch of the shard's log.
--
-- KEYS  1 log
-- ARGV  1 user id  2 first id  3 last id  4 entries to look at  5 "read" or "erase"
-- Returns {id to go on after, or "" at the end; found entries: id, record, exposure …}
local entries = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[3], 'COUNT', ARGV[4])
local found = {}
for _, entry in ipairs(entries) do
  local fields = entry[2]
  if fields[2] == ARGV[1] then
    if ARGV[5] == 'erase' then
      redis.call('XDEL', KEYS[1], entry[1])
    else
      found[#found + 1] = entry[1]
      found[#found + 1] = fields[4]
      found[#found + 1] = fields[6] or ''
    end
  end
end
local more = ''
if #entries == tonumber(ARGV[4]) then
  more = entries[#entries][1]
end
return { more, found }
