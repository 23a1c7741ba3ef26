"""
The scripts that run inside Redis: what they do happens at once, or not at all.

All keys of one script carry the same hash tag, so that a Redis Cluster keeps them in one place
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
"""

__all__ = ["BEAT", "JOIN", "LEAVE", "PUBLISH", "READ"]

# The stream of another lineage (another master, or a Redis that has forgotten) may lack what was acknowledged: it
# begins again.
_STREAM = """
local found = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'lineage')
local epoch, top, lineage = found[1], tonumber(found[2] or 0), found[3] or ''
local function begin(fresh, mine)
  if not epoch or (mine ~= '' and lineage ~= '' and mine ~= lineage) then
    epoch, top = fresh, 0
    -- In this order: after a DEL, Redis would let a script write beyond maxmemory.
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', 0)
    redis.call('DEL', KEYS[2])
  end
  if mine ~= '' then
    redis.call('HSET', KEYS[1], 'lineage', mine)
  end
end
"""

PUBLISH = (
    _STREAM
    + """
if KEYS[3] then
  local known = redis.call('GET', KEYS[3])
  if known then
    local at = string.find(known, ':', 1, true)
    return {tonumber(string.sub(known, 1, at - 1)), string.sub(known, at + 1)}
  end
end
if ARGV[5] == '0' then
  top, epoch = 0, ''
else
  begin(ARGV[3], ARGV[4])
  top = redis.call('HINCRBY', KEYS[1], 'offset', 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
  redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[5], top .. '-0', 'd', ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
if KEYS[3] then
  redis.call('SET', KEYS[3], top .. ':' .. epoch, 'PX', ARGV[8])
end
redis.call('PUBLISH', ARGV[1], 'p:' .. top .. ':' .. epoch .. ':' .. ARGV[2])
return {top, epoch}
"""
)
"""
Append to a stream and publish, at once.

KEYS: meta, stream and, where there is one, the idempotency key. ARGV: where to publish, the packed publication, an
epoch to begin with, the lineage, the stream's size (0 for no stream, and then there is no offset), how long it and
its meta are kept (ms), and how long the idempotency key is (ms). Returns offset and epoch.
"""

READ = (
    _STREAM
    + """
local before = epoch
begin(ARGV[1], ARGV[2])
if epoch ~= before then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local limit = tonumber(ARGV[5])
if limit == 0 then
  return {top, epoch, {}}
end
local command = {'XRANGE', KEYS[2], ARGV[4], '+'}
if ARGV[6] == '1' then
  command = {'XREVRANGE', KEYS[2], ARGV[4], '-'}
end
if limit > 0 then
  command[5], command[6] = 'COUNT', ARGV[5]
end
if ARGV[7] == '' then
  return {top, epoch, redis.call(unpack(command))}
end
local left, entries = tonumber(ARGV[7]), {}
command[5] = 'COUNT'
while limit ~= 0 do
  -- Few at a time, so that little is read that does not fit in any more.
  command[6] = limit > 0 and math.min(limit, 16) or 16
  local found = redis.call(unpack(command))
  for _, entry in ipairs(found) do
    left = left - string.len(entry[2][2])
    if left < 0 and #entries > 0 then
      return {top, epoch, entries}
    end
    entries[#entries + 1] = entry
  end
  if #found < command[6] then
    break
  end
  command[3], limit = '(' .. found[#found][1], limit - #found
end
return {top, epoch, entries}
"""
)
"""
Read a stream; one that was never published to begins, so that its position means something.

KEYS: meta, stream. ARGV: an epoch to begin with, the lineage, how long the meta of one that begins is kept (ms), the
entry to begin with (Lua cannot reckon with offsets of over 2**53), the limit (0 none, negative all), 1 for reverse,
the most bytes of packed data (empty for no limit; one entry is returned though it is larger). Returns top, epoch,
entries.
"""

JOIN = """
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
"""Put clients on a channel. KEYS: presence. ARGV: how long it is kept (ms), then client and info by turns."""

LEAVE = """
return redis.call('HDEL', KEYS[1], unpack(ARGV))
"""
"""Take clients off. KEYS: presence. ARGV: clients. Returns how many were there."""

BEAT = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], 10 * ARGV[2])
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
"""
Tell that a process lives, and learn which others do, by the clock of Redis.

KEYS: nodes. ARGV: the process, or nothing; how long one lives without telling (ms). Returns those that live.
"""
