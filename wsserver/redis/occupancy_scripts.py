"""
The Lua scripts of `wsserver.redis.occupancy`, which names the keys. Redis runs each script atomically.

An event is a text: `occupied` or `vacated`, the UNIX time in milliseconds and the channel, separated by colons.
"""

__all__ = ["ACCEPT", "FORGET", "REMOVE_PROCESS", "TAKE", "TICK", "UPDATE"]

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

UPDATE = (
    _NOW
    + """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return false
end
local room = ARGV[3] - redis.call('LLEN', KEYS[5])
local refused = {}
for i = 5, #ARGV do
  local channel = ARGV[i]
  if i > 4 + ARGV[4] then
    if redis.call('SREM', KEYS[2], channel) == 1 and redis.call('HINCRBY', KEYS[3], channel, -1) <= 0 then
      redis.call('HDEL', KEYS[3], channel)
      redis.call('ZADD', KEYS[4], now + ARGV[2], channel)
    end
  elseif redis.call('SISMEMBER', KEYS[2], channel) == 0 then
    local known = redis.call('HEXISTS', KEYS[3], channel) == 1 or redis.call('ZREM', KEYS[4], channel) == 1
    if not known and room <= 0 then
      refused[#refused + 1] = channel
    else
      redis.call('SADD', KEYS[2], channel)
      redis.call('HINCRBY', KEYS[3], channel, 1)
      if not known then
        room = room - 1
        redis.call('RPUSH', KEYS[5], 'occupied:' .. string.format('%.0f', now) .. ':' .. channel)
      end
    end
  end
end
return refused
"""
)
"""
Record which channels have subscribers in a process.

KEYS: processes; channels of the process; counts; vacating; events.
ARGV: the process's id; the delay in milliseconds after which a channel without subscribers is vacated; the maximum
number of events; the number of channels that have subscribers; these channels; the channels that have none any longer.
Returns the channels that were not recorded, because there are too many events; nil if the process is not in the list.
"""

TICK = (
    _NOW
    + """
for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3], 'LIMIT', 0, 100)) do
  if process ~= ARGV[1] then
    redis.call('ZREM', KEYS[1], process)
    redis.call('SADD', KEYS[2], process)
  end
end
local known = 0
if ARGV[2] == '1' or redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  known = 1
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
local room = math.min(ARGV[5] - redis.call('LLEN', KEYS[6]), tonumber(ARGV[6]))
local vacated = 0
if room > 0 then
  for _, channel in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, room)) do
    redis.call('ZREM', KEYS[5], channel)
    redis.call('RPUSH', KEYS[6], 'vacated:' .. string.format('%.0f', now) .. ':' .. channel)
    vacated = vacated + 1
  end
end
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[4])
end
return {known, redis.call('SRANDMEMBER', KEYS[2], 10), redis.call('LLEN', KEYS[6]), vacated}
"""
)
"""
Record that a process is running, find dead ones, and queue the events of vacated channels.

KEYS: processes; dead; channels of the process; counts; vacating; events.
ARGV: the process's id; 1 to add it to the list of processes, empty if it must be there; the milliseconds without this
call after which a process counts as dead; the TTL of the keys in milliseconds; the maximum number of events; the
maximum number of channels to vacate.
Returns 1 if the process is in the list; up to 10 dead processes, whose channels have to be removed; the number of
events; the number of vacated channels.
"""

REMOVE_PROCESS = """
local function is_dead(id)
  return string.sub(id, 1, #ARGV[1]) == ARGV[1]
end
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if is_dead(id) then
    redis.call('ZREM', KEYS[1], id)
    redis.call('SADD', KEYS[2], id)
    found[#found + 1] = id
  end
end
if is_dead(redis.call('GET', KEYS[3]) or '') then
  redis.call('DEL', KEYS[3])
end
return found
"""
"""
Mark a process as dead before `TICK` finds it, and release its lease.

KEYS: processes; dead; lease.
ARGV: what the ids of the process begin with.
Returns its ids, whose channels have to be removed.
"""

FORGET = (
    _NOW
    + """
local channels = redis.call('SPOP', KEYS[2], ARGV[3])
for _, channel in ipairs(channels) do
  if redis.call('HINCRBY', KEYS[3], channel, -1) <= 0 then
    redis.call('HDEL', KEYS[3], channel)
    redis.call('ZADD', KEYS[4], now + ARGV[2], channel)
  end
end
if #channels < tonumber(ARGV[3]) then
  redis.call('SREM', KEYS[1], ARGV[1])
end
return #channels
"""
)
"""
Remove the channels of a dead process, and the process when none are left.

KEYS: dead; channels of the process; counts; vacating.
ARGV: the process's id; the delay in milliseconds after which a channel without subscribers is vacated; the maximum
number of channels to remove.
Returns the number of removed channels.
"""

TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return {}
end
local events = redis.call('LRANGE', KEYS[2], 0, ARGV[3] - 1)
if #events > 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
elseif holder then
  redis.call('DEL', KEYS[1])
end
return events
"""
"""
Take or renew the lease if there are events, and return the oldest ones.

KEYS: lease; events.
ARGV: the process's id; the milliseconds for which the lease is valid; the maximum number of events.
Returns the events; none if another process has the lease.
"""

ACCEPT = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('LTRIM', KEYS[2], ARGV[2], -1)
end
"""
"""
Remove the oldest events, if the process still has the lease.

KEYS: lease; events.
ARGV: the process's id; the number of events.
"""
