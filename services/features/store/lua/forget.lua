-- Takes a person out of the shard at one stroke. The log, the other sides of their relations and their part
-- in trends are cleaned afterwards by the jobs that this leaves behind, so that a crash loses nothing.
--
-- KEYS  1 gone  2 jobs  3 users  4 person  5 history  6 seen  7 dedupe  8 forward  9 back  10 merged from
--       11 detached history  12 detached forward  13 detached back  14 detached merged from
--       15 merged  16 known of the merged  17 merges  18 lock
-- ARGV  1 user id  2 keyed hash  3 now_ms
--       4 arrivals and 5 relation changes that were seen ("" = whatever they are now)
--       6 token of the withdrawal from trends  7 what is to be withdrawn ("" = to be read first, from history
--         and log, where the person is erased)
--       8 when attributes or relations had last arrived as it was seen ("" = whenever)
--       9 erase, or merge: the last step of folding them into another person, who has everything by now
--       10 for how long a merge is remembered, ms  11 dedupe window  12 token of the lock (merge only)
-- Returns what: 0 nothing there, 1 forgotten, 2 an earlier job is not finished, 3 changed since, 4 a merge of
--       theirs is not finished (erase only), 5 the lock is lost (merge only)
-- The jobs: x: first and last log entry, now_ms, first and last of the impressions; w: the token, while it is
-- still to be read what the person weighed; t: what is to be withdrawn; m: whom they are being merged into; i: who
-- is being merged into them; l: a relation without its other side yet.
if redis.call('HEXISTS', KEYS[2], 'x:' .. ARGV[1]) + redis.call('HEXISTS', KEYS[2], 'w:' .. ARGV[1]) > 0 then
  return 2
end
local erased = ARGV[9] == 'erase'
if erased and redis.call('HEXISTS', KEYS[2], 'm:' .. ARGV[1]) == 1 then
  return 4
end
if not erased and redis.call('GET', KEYS[18]) ~= ARGV[12] then
  return 5 -- another merge may have taken them out, and what is there be of a later life
end
local known = redis.call('EXISTS', KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10])
local person = redis.call('HMGET', KEYS[4], 'q', 'r', 'l0', 'l1', 'i0', 'i1', 't')
if ARGV[4] ~= '' and ((person[1] or '0') ~= ARGV[4] or (person[2] or '0') ~= ARGV[5]) then
  return 3
end
if ARGV[8] ~= '' and (person[7] or '0') ~= ARGV[8] then
  return 3
end
-- Events may be dated a few minutes ahead: marks cover those too.
local newest = tonumber(redis.call('ZREVRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2] or '0')
if erased and (known > 0 or redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0) then
  redis.call('HSET', KEYS[1], ARGV[2], math.max(tonumber(ARGV[3]), newest))
  redis.call('UNLINK', KEYS[16])
  redis.call('HDEL', KEYS[17], ARGV[2])
end
if not erased then
  -- By the store's clock too: lists of a merged person may have been made while the merge was under way, and
  -- their impressions be all that anybody has of them.
  local clock = redis.call('TIME')
  local now_ms = math.max(tonumber(ARGV[3]), clock[1] * 1000 + math.floor(clock[2] / 1000))
  redis.call('SET', KEYS[15], string.format('%.0f', now_ms), 'PX', ARGV[10])
  redis.call('HDEL', KEYS[2], 'm:' .. ARGV[1])
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
if not erased then
  redis.call('HSET', KEYS[17], ARGV[2], string.format('%.0f', math.max(tonumber(ARGV[3]), newest)))
  if redis.call('EXISTS', KEYS[7]) == 1 then -- what was acknowledged under this id may be sent again under it
    redis.call('ZUNIONSTORE', KEYS[16], 2, KEYS[16], KEYS[7], 'WEIGHTS', 0, 1) -- earlier lives leave first
    redis.call('ZREMRANGEBYRANK', KEYS[16], 0, -tonumber(ARGV[11]) - 1)
  end
end
for detached, key in pairs({ [11] = 5, [12] = 8, [13] = 9, [14] = 10 }) do
  local is_needed = erased or detached == 12 or detached == 13
  if is_needed and redis.call('EXISTS', KEYS[key]) == 1 then
    redis.call('RENAME', KEYS[key], KEYS[detached])
  end
end
redis.call('UNLINK', KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[10])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
