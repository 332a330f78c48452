-- Stores items and announces them, in one stroke. The stream's entry ids are revisions 1, 2, 3 …
-- without gaps, so that a follower notices what was trimmed away.
--
-- KEYS  1 documents  2 vectors  3 ids  4 changes  5 state
-- ARGV  1 cap of changes, then for each item: id, document, vector ("=" keeps the stored one)
-- Returns {one digit an item: 1 created, 2 updated; revision now}
local statuses, revision = {}, 0
for at = 2, #ARGV, 3 do
  local id = ARGV[at]
  local created = redis.call('HSET', KEYS[1], id, ARGV[at + 1])
  if ARGV[at + 2] ~= '=' then
    redis.call('HSET', KEYS[2], id, ARGV[at + 2])
  end
  redis.call('ZADD', KEYS[3], 0, id)
  revision = redis.call('HINCRBY', KEYS[5], 'revision', 1)
  redis.call('XADD', KEYS[4], 'MAXLEN', ARGV[1], revision .. '-0', 'i', id)
  statuses[#statuses + 1] = created == 1 and '1' or '2'
end
return { table.concat(statuses), revision }
