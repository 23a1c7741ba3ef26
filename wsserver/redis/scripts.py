"""
The Lua scripts that run inside Redis. Redis runs each script atomically.

All keys of one call have the same hash tag: the part in braces of `wsserver:meta:{foo}`. It puts them on the same node
of a Redis Cluster (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
"""

__all__ = ["HEARTBEAT", "JOIN", "LEAVE", "PUBLISH", "READ", "REMOVE_PROCESS"]

# The beginning of PUBLISH and READ: it reads the stream's metadata, and defines the function `begin`. If the stream has
# another dataset_id than Redis has now, Redis may have lost data, or another Redis has become the master. The stream
# may then lack publications that were acknowledged, so `begin` deletes it and starts a new one, with a new epoch.
_STREAM = """
local found = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'dataset_id')
local epoch, top, dataset_id = found[1], tonumber(found[2] or 0), found[3] or ''
local function begin(fresh, mine)
  if not epoch or (mine ~= '' and dataset_id ~= '' and mine ~= dataset_id) then
    epoch, top = fresh, 0
    -- In this order: after a DEL, Redis would let a script write beyond maxmemory.
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', 0)
    redis.call('DEL', KEYS[2])
  end
  if mine ~= '' and mine ~= dataset_id then
    redis.call('HSET', KEYS[1], 'dataset_id', mine)
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
Append a publication to a stream and publish it; do neither if the idempotency key is known.

KEYS: the stream's metadata; the stream; optionally the idempotency key.
ARGV: the Redis channel to publish to; the packed publication; the epoch for a new stream; the dataset ID (empty if
unknown); the maximum length of the stream (0 to publish without appending); the TTL of the stream, of the metadata and
of the idempotency key, each in milliseconds.
Returns the offset and epoch of the publication; 0 and an empty string if it was not appended. If the idempotency key is
known, returns what was returned when the key was first used.
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
  -- Only a few entries in each command, so that few entries are read that exceed the limit.
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
Read a stream. If it does not exist yet, store an epoch for it, so that clients can later recover from its start.

KEYS: the stream's metadata; the stream.
ARGV: the epoch for a new stream; the dataset ID (empty if unknown); the TTL of a new stream's metadata in milliseconds;
the ID of the entry to begin at (the caller computes it, because Lua numbers are exact only up to 2**53); the maximum
number of entries (0 for none, negative for all); 1 to read from newer to older entries, otherwise empty; the maximum
total size of the packed publications in bytes (empty for no limit; the first entry is returned even if it is larger).
Returns the offset of the stream's newest publication, the epoch, and the entries.
"""

JOIN = """
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
"""
Add clients to a channel's presence.

KEYS: the presence hash.
ARGV: the TTL of the hash in milliseconds; then, for each client, its id and its value.
"""

LEAVE = """
return redis.call('HDEL', KEYS[1], unpack(ARGV))
"""
"""
Remove clients from a channel's presence.

KEYS: the presence hash.
ARGV: the client ids.
Returns the number of clients that were removed.
"""

REMOVE_PROCESS = """
local found, removed = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #found, 2 do
  local value = found[i + 1]
  if removed == tonumber(ARGV[3]) then
    break
  end
  if string.sub(value, 1, #ARGV[1]) == ARGV[1] then
    redis.call('HDEL', KEYS[1], found[i])
    redis.call('PUBLISH', ARGV[2], 'l:' .. string.sub(value, #ARGV[1] + 1))
    removed = removed + 1
  end
end
return removed
"""
"""
Remove the clients of a dead process from a channel's presence, and publish their leave events.

KEYS: the presence hash.
ARGV: what the values of these clients begin with: the process's id and a space; the Redis channel of the events; the
maximum number of clients to remove.
Returns the number of clients that were removed.
"""

HEARTBEAT = """
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
Record the heartbeat of a server process, remove dead processes from the list, and return the running ones.

All times are those of the clock of Redis.

KEYS: the list of processes, a sorted set.
ARGV: the process's id (empty to record no heartbeat); the milliseconds without a heartbeat after which a process counts
as dead.
Returns the ids of the running processes.
"""
