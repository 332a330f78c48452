-- Takes what happened before a moment out of a person's history and seen set.
--
-- KEYS  1 person  2 history  3 seen
-- ARGV  1 the moment, ms
-- Returns {events and seen items that went; arrivals, relation changes, when attributes or relations last arrived;
--          last log entry, last impression}
local before = '(' .. ARGV[1]
local events = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', before)
local seen = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', before)
local person = redis.call('HMGET', KEYS[1], 'q', 'r', 't', 'l1', 'i1')
local shape = { person[1] or '0', person[2] or '0', person[3] or '0' }
return { events, seen, shape[1], shape[2], shape[3], person[4] or '', person[5] or '' }
