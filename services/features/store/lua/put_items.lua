-- Stores items and announces them, in one stroke. The stream's entry ids are revisions 1, 2, 3 …
-- without gaps, so that a follower notices what was trimmed away.
--
-- KEYS  1 documents  2 vectors  3 ids  4 changes  5 state
-- ARGV  1 cap of changes, then for each item: id, document, vector ("=" keeps the stored one), the stored
--       document whose vector that is
-- Returns one digit an item: 0 not stored, as there is no vector of that document to keep; 1 created, 2 updated
local statuses = {}
for at = 2, #ARGV, 4 do
  local id, keeps = ARGV[at], ARGV[at + 2] == '='
  if
    keeps
    and (redis.call('HGET', KEYS[1], id) ~= ARGV[at + 3] or redis.call('HEXISTS', KEYS[2], id) == 0)
  then
    statuses[#statuses + 1] = '0'
  else
    local created = redis.call('HSET', KEYS[1], id, ARGV[at + 1])
    if not keeps then
      redis.call('HSET', KEYS[2], id, ARGV[at + 2])
    end
    redis.call('ZADD', KEYS[3], 0, id)
    local revision = redis.call('HINCRBY', KEYS[5], 'revision', 1)
    redis.call('XADD', KEYS[4], 'MAXLEN', ARGV[1], revision .. '-0', 'i', id)
    statuses[#statuses + 1] = created == 1 and '1' or '2'
  end
end
return table.concat(statuses)
