-- Reads or erases one person's entries in a stretch of the shard's log.
--
-- KEYS  1 log  2 state
-- ARGV  1 user id  2 first id  3 last id  4 entries to look at  5 "read" or "erase"  6 field of the state that
--       counts the times entries were cut out of this log
-- Returns {id to go on after, or "" at the end; found entries: id, record, exposure …}
local entries = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[3], 'COUNT', ARGV[4])
local found, cut = {}, 0
for _, entry in ipairs(entries) do
  local fields = entry[2]
  if fields[2] == ARGV[1] then
    if ARGV[5] == 'erase' then
      cut = cut + redis.call('XDEL', KEYS[1], entry[1])
    else
      found[#found + 1] = entry[1]
      found[#found + 1] = fields[4]
      found[#found + 1] = fields[6] or ''
    end
  end
end
if cut > 0 then
  redis.call('HINCRBY', KEYS[2], ARGV[6], 1)
end
local more = ''
if #entries == tonumber(ARGV[4]) then
  more = entries[#entries][1]
end
return { more, found }
