-- Deletes items and announces it.
--
-- KEYS  1 documents  2 vectors  3 ids  4 changes  5 state
-- ARGV  1 cap of changes, then item ids
-- Returns one digit an item: 1 deleted, 0 was not there
local statuses = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local existed = redis.call('HDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
  if existed == 1 then
    local revision = redis.call('HINCRBY', KEYS[5], 'revision', 1)
    redis.call('XADD', KEYS[4], 'MAXLEN', ARGV[1], revision .. '-0', 'i', id)
  end
  statuses[#statuses + 1] = tostring(existed)
end
return table.concat(statuses)
