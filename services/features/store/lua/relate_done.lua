-- Closes the notes of relate.lua. Tells which relations the owner no longer has, so that the
-- other side can be cleaned too.
--
-- KEYS  1 jobs, then for each relation: forward
-- ARGV  for each relation: job field, field, "drop" where the other side refused it, else ""
-- Returns one digit a relation: 1 still there, 0 gone
local statuses = {}
for n = 1, #ARGV / 3 do
  local forward = KEYS[n + 1]
  if ARGV[3 * n] == 'drop' then
    redis.call('HDEL', forward, ARGV[3 * n - 1])
  end
  statuses[n] = tostring(redis.call('HEXISTS', forward, ARGV[3 * n - 1]))
  redis.call('HDEL', KEYS[1], ARGV[3 * n - 2])
end
return table.concat(statuses)
