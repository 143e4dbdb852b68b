"""The Lua scripts of the Redis driver. Each is one step for Redis: nobody sees it half done, and the index changes with the record or not at all.

A record is ``"pR1" | state | version | rest`` as :mod:`pauth.storage.redis.rows` lays it out; a deleted one is ``"pR1D" | version | time``. An
index is a sorted set of ``"u" | row id`` and, for records with an expiry, ``"e" | expiry | row id``, all with score 0: in the order of their bytes.

Errors of one row are answers of that row, ``"!"`` and Redis's text, so that one bad row fails alone; that the server has become a replica is an
error of the whole. In each step the command that may be
refused for lack of memory comes first: Redis refuses no later one of a script that has begun to write.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["DELETE", "EXTEND_LEASE", "LOOK", "PUT", "RANGE", "RELEASE_LEASE", "REWRITE", "SOURCES", "TAKE_LEASE"]

_READ_HEAD: Final = """
local read_only = false
local function failure_of(answer)
  local text = tostring(answer.err)
  if string.find(text, 'READONLY', 1, true) then read_only = true end
  return '!' .. text
end

local function head_of(key)
  local head = redis.pcall('GETRANGE', key, 0, 60)
  if type(head) == 'table' then return nil, failure_of(head) end
  if head == '' then return head end
  local state = string.sub(head, 1, 4)
  if (state == 'pR1L' and #head == 61) or (state == 'pR1D' and #head == 20) then return head end
  return nil, '!FOREIGN'
end
"""

# KEYS: the indexes, then the records. ARGV: how many indexes, milliseconds to keep a record (0: for ever), then two for each record:
# its index, the expected version (-1: any), whether a lineage is expected, that lineage, the row id; and the value from the flags on.
_PUT: Final = (
    _READ_HEAD
    + """
local indexes, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = 0
if keep > 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function put(key, meta, rest)
  local position, expected, wants, lineage, row = struct.unpack('>I2i8I1c16c32', meta)
  local index = KEYS[position + 1]
  local old, failure = head_of(key)
  if not old then return failure end
  local live = string.sub(old, 4, 4) == 'L'
  local version = 0
  if old ~= '' then version = struct.unpack('>I8', old, 5) end
  if expected >= 0 and expected ~= (live and version or 0) then return false end
  if wants == 1 and not (live and math.floor(string.byte(old, 13) / 2) % 2 == 1 and string.sub(old, 30, 45) == lineage) then return false end

  local entry, old_entry, done
  if string.byte(rest, 1) % 2 == 1 then entry = 'e' .. string.sub(rest, 10, 17) .. row end
  if live and string.byte(old, 13) % 2 == 1 then old_entry = 'e' .. string.sub(old, 22, 29) .. row end
  -- always, so that an index that was lost comes back
  if entry then
    done = redis.pcall('ZADD', index, 0, 'u' .. row, 0, entry)
  else
    done = redis.pcall('ZADD', index, 0, 'u' .. row)
  end
  if type(done) == 'table' then return failure_of(done) end

  local value = 'pR1L' .. struct.pack('>I8', version + 1) .. rest
  if keep > 0 then
    local last = now + keep
    if entry then last = math.max(last, struct.unpack('>I8', rest, 10) - 4503599627370496 + keep) end
    if live then last = math.max(last, now + redis.call('PTTL', key)) end
    done = redis.pcall('SET', key, value, 'PXAT', string.format('%.0f', last))
  else
    done = redis.pcall('SET', key, value)
  end
  if done.err then return failure_of(done) end
  if old_entry and old_entry ~= entry then redis.pcall('ZREM', index, old_entry) end
  if keep > 0 and not live then
    -- what Redis has dropped leaves its entries behind: for each that comes, a few are looked at, so that they stay a small part
    local some = redis.pcall('ZRANDMEMBER', index, 4)
    for _, each in ipairs(some) do
      local name = string.gsub(string.sub(each, -32), '.', function(byte) return string.format('%02x', string.byte(byte)) end)
      if redis.pcall('EXISTS', string.sub(key, 1, #key - 64) .. name) == 0 then redis.pcall('ZREM', index, each) end
    end
  end
  return version + 1
end

local answers = {}
for i = indexes + 1, #KEYS do
  local at = 2 * (i - indexes)
  answers[i - indexes] = put(KEYS[i], ARGV[at + 1], ARGV[at + 2])
end
if read_only then return redis.error_reply('READONLY nothing was written') end
return answers
"""
)

# KEYS: the indexes, then the records. ARGV: how many indexes, then for each record: its index, the expected version (-1: any), row id, time.
_DELETE: Final = (
    _READ_HEAD
    + """
local indexes = tonumber(ARGV[1])

local function delete(key, meta)
  local position, expected, row, stored_at = struct.unpack('>I2i8c32c8', meta)
  local old, failure = head_of(key)
  if not old then return failure end
  if string.sub(old, 4, 4) ~= 'L' then return 0 end
  if expected >= 0 and expected ~= struct.unpack('>I8', old, 5) then return 0 end
  local entry = 'e' .. string.sub(old, 22, 29) .. row
  local done = redis.pcall('ZREM', KEYS[position + 1], 'u' .. row, entry)
  if type(done) == 'table' then return failure_of(done) end
  done = redis.pcall('SET', key, 'pR1D' .. string.sub(old, 5, 12) .. stored_at, 'PX', 86400000)
  if done.err then return failure_of(done) end
  return 1
end

local answers = {}
for i = indexes + 1, #KEYS do answers[i - indexes] = delete(KEYS[i], ARGV[i - indexes + 1]) end
if read_only then return redis.error_reply('READONLY nothing was written') end
return answers
"""
)

# KEYS: an index. ARGV: two bounds, how many entries at most, how long each is. Gives them in one piece: for many small answers a client needs
# longer than for all else. If one is of another length, so that this version of pauth did not write it, they come one by one.
_RANGE: Final = """
local found = redis.pcall('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
if found.err then return found end
local length = tonumber(ARGV[4])
for _, each in ipairs(found) do
  if #each ~= length then return found end
end
return table.concat(found)
"""

# KEYS: an index, then records. ARGV: the entry of each record in that index. Gives the head, namespace and user id of each in one piece,
# each after its length (4); nothing after a length of 0.
# What the index still names although its record has run out or was evicted is taken from the index; what cannot be read is left alone.
_LOOK: Final = (
    _READ_HEAD
    + """
local answers = {}
for i = 2, #KEYS do
  local entry, answer = ARGV[i - 1], ''
  local head = head_of(KEYS[i])
  if head and string.sub(head, 4, 4) == 'L' and (string.byte(entry) == 117 or
      (string.byte(head, 13) % 2 == 1 and string.sub(head, 22, 29) == string.sub(entry, 2, 9))) then
    local namespace, user = struct.unpack('>I4I4', head, 54)
    answer = redis.call('GETRANGE', KEYS[i], 0, 60 + namespace + user)
  elseif head then
    redis.pcall('ZREM', KEYS[1], entry)
  end
  answers[i - 1] = struct.pack('>I4', #answer) .. answer
end
if read_only then return redis.error_reply('READONLY nothing was written') end
return table.concat(answers)
"""
)

# KEYS: the record. ARGV: what it has to begin with (state and version), what to put in its place. It keeps its expiry, and the indexes stay true.
_REWRITE: Final = """
if redis.call('GETRANGE', KEYS[1], 0, 11) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""

# KEYS: the lease, the fence. ARGV: owner, milliseconds. A lease is its fence and its owner. Fences follow the server's clock where that is
# ahead, so that they rise even if the last one was lost in a failover.
_TAKE_LEASE: Final = """
local held = redis.call('GET', KEYS[1])
if held then
  if string.sub(held, 9) ~= ARGV[1] then return false end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return (struct.unpack('>I8', held))
end
local time = redis.call('TIME')
local fence = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('SET', KEYS[2], string.format('%.0f', fence))
redis.call('SET', KEYS[1], struct.pack('>I8', fence) .. ARGV[1], 'PX', ARGV[2])
return fence
"""

# KEYS: the lease. ARGV: owner, milliseconds.
_EXTEND_LEASE: Final = """
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 9) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# KEYS: the lease. ARGV: owner.
_RELEASE_LEASE: Final = """
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 9) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def _sha(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()  # the name EVALSHA knows a script by


PUT: Final = _sha(_PUT)
DELETE: Final = _sha(_DELETE)
RANGE: Final = _sha(_RANGE)
LOOK: Final = _sha(_LOOK)
REWRITE: Final = _sha(_REWRITE)
TAKE_LEASE: Final = _sha(_TAKE_LEASE)
EXTEND_LEASE: Final = _sha(_EXTEND_LEASE)
RELEASE_LEASE: Final = _sha(_RELEASE_LEASE)

SOURCES: Final = {_sha(source): source for source in (_PUT, _DELETE, _RANGE, _LOOK, _REWRITE, _TAKE_LEASE, _EXTEND_LEASE, _RELEASE_LEASE)}
"""The text of each script by its name: for a server that does not know it, or not any more."""
