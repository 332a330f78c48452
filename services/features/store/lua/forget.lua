-- Takes a person out of the shard at one stroke. The log, the other sides of their relations and their part
-- in trends are cleaned afterwards by the jobs that this leaves behind, so that a crash loses nothing.
--
-- KEYS  1 gone  2 jobs  3 users  4 person  5 history  6 seen  7 dedupe  8 forward  9 back
--       10 detached history  11 detached forward  12 detached back  13 merged
-- ARGV  1 user id  2 keyed hash ("" = folded into another person, leaves no mark)  3 now_ms
--       4 arrivals and 5 relation changes that were seen ("" = whatever they are now)
--       6 token of the withdrawal from trends  7 what is to be withdrawn ("" = to be read first, from history
--         and log, where the person is erased)
--       8 when attributes or relations had last arrived as it was seen ("" = whenever)  9 for how long a merge is
--         remembered, ms
-- Returns what: 0 nothing there, 1 forgotten, 2 an earlier job is not finished, 3 changed since
-- The jobs: x: first and last log entry, now_ms, first and last of the impressions; w: the token, while it is
-- still to be read what the person weighed; t: what is to be withdrawn.
if redis.call('HEXISTS', KEYS[2], 'x:' .. ARGV[1]) + redis.call('HEXISTS', KEYS[2], 'w:' .. ARGV[1]) > 0 then
  return 2
end
local known = redis.call('EXISTS', KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9])
local person = redis.call('HMGET', KEYS[4], 'q', 'r', 'l0', 'l1', 'i0', 'i1', 't')
if ARGV[4] ~= '' and ((person[1] or '0') ~= ARGV[4] or (person[2] or '0') ~= ARGV[5]) then
  return 3
end
if ARGV[8] ~= '' and (person[7] or '0') ~= ARGV[8] then
  return 3
end
local erased = ARGV[2] ~= ''
if erased and (known > 0 or redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0) then
  -- Events may be dated a few minutes ahead: the mark covers those too.
  local newest = redis.call('ZREVRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2]
  redis.call('HSET', KEYS[1], ARGV[2], math.max(tonumber(ARGV[3]), tonumber(newest or '0')))
end
if not erased then
  -- By the store's clock too: lists of a merged person may have been made while the merge was under way, and
  -- their impressions be all that anybody has of them.
  local clock = redis.call('TIME')
  local now_ms = math.max(tonumber(ARGV[3]), clock[1] * 1000 + math.floor(clock[2] / 1000))
  redis.call('SET', KEYS[13], string.format('%.0f', now_ms), 'PX', ARGV[9])
end
if known == 0 then
  return 0
end
local job = { person[3] or '', person[4] or '', ARGV[3], person[5] or '', person[6] or '' }
redis.call('HSET', KEYS[2], 'x:' .. ARGV[1], table.concat(job, ' '))
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[2], 't:' .. ARGV[6], ARGV[7])
elseif erased then
  redis.call('HSET', KEYS[2], 'w:' .. ARGV[1], ARGV[6])
end
for detached, key in pairs({ [10] = 5, [11] = 8, [12] = 9 }) do
  if (detached ~= 10 or erased) and redis.call('EXISTS', KEYS[key]) == 1 then
    redis.call('RENAME', KEYS[key], KEYS[detached])
  end
end
redis.call('UNLINK', KEYS[4], KEYS[5], KEYS[6], KEYS[7])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
