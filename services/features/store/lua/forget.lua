-- Takes a person out of the shard at one stroke. The log and the other sides of their relations
-- are cleaned afterwards by the job that this leaves behind, so that a crash loses nothing.
--
-- KEYS  1 gone  2 jobs  3 users  4 person  5 history  6 seen  7 dedupe  8 forward  9 back
--       10 detached forward  11 detached back
-- ARGV  1 user id  2 keyed hash ("" = folded into another person, leaves no mark)  3 now_ms
--       4 arrivals and 5 relation changes that were seen ("" = whatever they are now)
-- Returns {what: 0 nothing there, 1 forgotten, 2 an earlier job is not finished, 3 changed since;
--          first and last log entry}
-- The job: first and last log entry, now_ms, first and last of the impressions.
if redis.call('HEXISTS', KEYS[2], 'x:' .. ARGV[1]) == 1 then
  return { 2, '', '' }
end
local known = redis.call('EXISTS', KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9])
local person = redis.call('HMGET', KEYS[4], 'q', 'r', 'l0', 'l1', 'i0', 'i1')
if ARGV[4] ~= '' and ((person[1] or '0') ~= ARGV[4] or (person[2] or '0') ~= ARGV[5]) then
  return { 3, '', '' }
end
if ARGV[2] ~= '' and (known > 0 or redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0) then
  -- Events may be dated a few minutes ahead: the mark covers those too.
  local newest = redis.call('ZREVRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2]
  redis.call('HSET', KEYS[1], ARGV[2], math.max(tonumber(ARGV[3]), tonumber(newest or '0')))
end
if known == 0 then
  return { 0, '', '' }
end
local first, last = person[3] or '', person[4] or ''
local job = { first, last, ARGV[3], person[5] or '', person[6] or '' }
redis.call('HSET', KEYS[2], 'x:' .. ARGV[1], table.concat(job, ' '))
for side = 0, 1 do
  if redis.call('EXISTS', KEYS[8 + side]) == 1 then
    redis.call('RENAME', KEYS[8 + side], KEYS[10 + side])
  end
end
redis.call('UNLINK', KEYS[4], KEYS[5], KEYS[6], KEYS[7])
redis.call('SREM', KEYS[3], ARGV[1])
return { 1, first, last }
