-- Closes the notes of relate.lua. What the other side refused is dropped only where the owner's relations are of
-- the version at which that was asked: else it may have been written again, and taken.
--
-- KEYS  1 jobs, then for each relation: the owner's person, forward
-- ARGV  for each relation: job field, field, version, time (i64, little-endian),
--       what: "keep", "drop" where the other side refused it, "undone" where the other side has been taken back
-- Returns  one digit a relation: 1 closed, 6 to be tried again
--          not there: 0 as the owner was erased or merged meanwhile, 2 and the owner is still who they were: taken
--          out with an earlier life of the other. The note stays, unless it was to be dropped or is undone
--          for each relation: the version of its owner's relations now
local function version_of(person)
  local version = redis.call('HMGET', person, 'b', 'o')
  return (version[1] or '') .. ':' .. (version[2] or '')
end
local found = {}
for n = 1, #ARGV / 5 do
  found[KEYS[2 * n]] = version_of(KEYS[2 * n])
end
local statuses = {}
for n = 1, #ARGV / 5 do
  local person, forward = KEYS[2 * n], KEYS[2 * n + 1]
  local note, field, version, time, what = unpack(ARGV, 5 * n - 4, 5 * n)
  local packed = redis.call('HGET', forward, field)
  local status = '1'
  if not packed then
    local is_same_life = string.match(found[person], '^%d+:') == string.match(version, '^%d+:')
    status = is_same_life and '2' or '0'
  elseif what == 'undone' or (what == 'drop' and found[person] ~= version) then
    status = '6'
  elseif what == 'drop' and string.sub(packed, 5) == time then
    redis.call('HDEL', forward, field)
  end
  if status == '1' then -- whoever has looked at it to take it out sees that it was written
    redis.call('HINCRBY', person, 'o', 1)
  end
  if status == '1' or (status ~= '6' and what ~= 'keep') then
    redis.call('HDEL', KEYS[1], note)
  end
  statuses[n] = status
end
local reply = { table.concat(statuses) }
for n = 1, #ARGV / 5 do
  reply[n + 1] = version_of(KEYS[2 * n])
end
return reply
