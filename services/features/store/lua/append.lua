-- Appends events of one shard: log (or impressions), history, seen set, and last the dedupe mark.
--
-- KEYS  1 log  2 impressions  3 gone, then for each person: person, history, seen, dedupe, merged, known of the
--       merged
-- ARGV  1 history cap  2 seen cap  3 dedupe window  4 log cap  5 impressions cap  6 number of people,
--       for each person: user id, keyed hash
--       for each event: person (1..), action, time_ms, item id, digest, record, exposure ("" = none)
-- Returns {one digit an event: 1 recorded, 2 duplicate (also of before a merge into another person), 3 dated before the person's erasure, 4 recorded, on an
--          item that the person had acted on before, 6 an impression from before a merge into another person;
--          entries trimmed from the log; entries in the log}
local PER_PERSON, PER_EVENT, IMPRESSION = 6, 7, 1
local people = tonumber(ARGV[6])
local history_cap, seen_cap = tonumber(ARGV[1]), tonumber(ARGV[2])
local window, log_cap, impressions_cap = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- Everything is checked before the first write: a script that fails half-way is not undone.
if not (people and history_cap and seen_cap and window and log_cap and impressions_cap) then
  return redis.error_reply('ERR append: caps and number of people must be numbers')
end
local first = 6 + 2 * people
if #KEYS ~= 3 + PER_PERSON * people or #ARGV < first or (#ARGV - first) % PER_EVENT ~= 0 then
  return redis.error_reply('ERR append: wrong number of keys or arguments')
end
local function expect(key, wanted)
  local found = redis.call('TYPE', key)['ok']
  if found ~= 'none' and found ~= wanted then
    return redis.error_reply('ERR append: ' .. key .. ' holds ' .. found .. ', not ' .. wanted)
  end
end
local wrong = expect(KEYS[1], 'stream') or expect(KEYS[2], 'stream') or expect(KEYS[3], 'hash')
local kinds = { 'hash', 'zset', 'zset', 'zset', 'string', 'zset' }
for key = 4, #KEYS do
  wrong = wrong or expect(KEYS[key], kinds[(key - 4) % PER_PERSON + 1])
end
if wrong then
  return wrong
end
for at = first + 1, #ARGV, PER_EVENT do
  local person = tonumber(ARGV[at])
  if not (person and person >= 1 and person <= people and tonumber(ARGV[at + 1]) and tonumber(ARGV[at + 2])) then
    return redis.error_reply('ERR append: person, action and time of an event must be numbers')
  end
end

local gone_at, merged_at, was_merged = {}, {}, {}
for person = 1, people do
  gone_at[person] = tonumber(redis.call('HGET', KEYS[3], ARGV[5 + 2 * person + 1]) or '')
  merged_at[person] = tonumber(redis.call('GET', KEYS[2 + PER_PERSON * person]) or '')
  was_merged[person] = redis.call('EXISTS', KEYS[3 + PER_PERSON * person]) == 1
end

local statuses, touched = {}, {}
for at = first + 1, #ARGV, PER_EVENT do
  local person = tonumber(ARGV[at])
  local time, digest = tonumber(ARGV[at + 2]), ARGV[at + 4]
  local base = 4 + PER_PERSON * (person - 1)
  if gone_at[person] and time <= gone_at[person] then
    statuses[#statuses + 1] = '3'
  elseif merged_at[person] and time <= merged_at[person] and tonumber(ARGV[at + 1]) == IMPRESSION then
    statuses[#statuses + 1] = '6' -- of a list that was on its way: it would bring the merged id back to life
  elseif
    redis.call('ZSCORE', KEYS[base + 3], digest)
    or (was_merged[person] and redis.call('ZSCORE', KEYS[base + 5], digest))
  then
    statuses[#statuses + 1] = '2'
  else
    local arrival = redis.call('HINCRBY', KEYS[base], 'q', 1)
    local user, record, exposure = ARGV[5 + 2 * person], ARGV[at + 5], ARGV[at + 6]
    local shown = tonumber(ARGV[at + 1]) == IMPRESSION
    local stream, mark = KEYS[shown and 2 or 1], shown and 'i' or 'l'
    local entry
    if exposure == '' then
      entry = redis.call('XADD', stream, '*', 'u', user, 'e', record)
    else
      entry = redis.call('XADD', stream, '*', 'u', user, 'e', record, 'x', exposure)
    end
    redis.call('HSETNX', KEYS[base], mark .. '0', entry)
    redis.call('HSET', KEYS[base], mark .. '1', entry)
    local again = false
    if not shown then
      again = redis.call('ZSCORE', KEYS[base + 2], ARGV[at + 3])
      redis.call('HINCRBY', KEYS[base], 'n', 1)
      redis.call('ZADD', KEYS[base + 1], ARGV[at + 2], struct.pack('>I8', arrival) .. record)
      redis.call('ZADD', KEYS[base + 2], 'GT', ARGV[at + 2], ARGV[at + 3])
    end
    redis.call('ZADD', KEYS[base + 3], arrival, digest)
    touched[base] = true
    statuses[#statuses + 1] = again and '4' or '1'
  end
end

for base, _ in pairs(touched) do
  redis.call('ZREMRANGEBYRANK', KEYS[base + 1], 0, -history_cap - 1)
  redis.call('ZREMRANGEBYRANK', KEYS[base + 2], 0, -seen_cap - 1)
  redis.call('ZREMRANGEBYRANK', KEYS[base + 3], 0, -window - 1)
end
if redis.call('XLEN', KEYS[2]) > impressions_cap then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', impressions_cap)
end
local length, trimmed = redis.call('XLEN', KEYS[1]), 0
if length > log_cap then
  trimmed = redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', log_cap)
  length = length - trimmed
end
return { table.concat(statuses), trimmed, length }
