"""What is done inside the Redis server: each script is atomic, and concerns one hash slot.

The scripts of a record have one key, the record's. Those of a user have three, in the slot of the user: the index (a sorted set
of session keys by absolute deadline), what is kept beside it (a hash: for each session key the state of its entry, the time of
the index write, the time of the login), and the fence. A record and its user's keys may be on different nodes of a cluster: so a
login is a series of steps (`coatcheck.stores._redis_users`).

Every script first gets `now`, which decides about expiry: packed, since to write a time as text costs the application several
times as much as any other word. The server's own clock is asked for two things only: fences, and the age of index
entries. The time-to-live of a key is reckoned from what is left of its life by `now`, and `SLACK` longer.

No script calls GET: so the server's statistics tell a load (`get`) from a script (`evalsha`).
"""

from hashlib import sha1
from typing import Any, Final

__all__ = [
    "ANYTHING",
    "CONFIRM",
    "END",
    "ENTRIES",
    "FORGET",
    "FORGET_TALLY",
    "HEAL",
    "INDEX",
    "LIVES",
    "LOAD",
    "NUMBER",
    "PROBE",
    "PURGE",
    "PUT",
    "RESTORE",
    "TALLIED",
    "TALLY",
    "TEXT",
    "TOUCH",
    "Script",
]


ANYTHING: Final = frozenset({bytes, int, type(None), list, dict, set, float, bool, str})
"""What replies are made of, but for errors and news."""
TEXT: Final = frozenset({bytes})
TEXT_OR_NOTHING: Final = TEXT | {type(None)}
NUMBER: Final = frozenset({int})
LIST: Final = frozenset({list})


class Script:
    """One kind of command. `words` is what goes to the server; `in_full` the same for a server that has lost the script."""

    __slots__ = ("_head", "answers", "name", "reads", "source")

    def __init__(
        self, name: str, source: str = "", *, reads: bool = False, answers: frozenset[type] = ANYTHING
    ) -> None:
        self.name, self.answers = name, answers
        """`answers`: the types of its replies. One of another type is the reply to something else."""
        self.source = source
        self.reads = reads
        """Changes nothing, so that it may be sent again when its reply was lost."""
        self._head = ("EVALSHA", sha1(source.encode(), usedforsecurity=False).hexdigest())

    def words(self, keys: tuple[str, ...], args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The command, by the script's hash; without a script: its name, its key and what follows."""
        return (*self._head, len(keys), *keys, *args) if self.source else (self.name, *keys, *args)

    def in_full(self, keys: tuple[str, ...], args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The command with the script's text, which the server keeps from then on."""
        return ("EVAL", self.source, len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


# ------------------------------------------------------------------------------------------------------- one record

LOAD: Final = Script("GET", reads=True, answers=TEXT_OR_NOTHING)

SHARED: Final = """
local now = struct.unpack('>d', ARGV[1])
local SLACK = 3600000  -- an hour: as far apart as the clocks of application servers may be
local function left(moment)
  local ms = (moment - now) * 1000
  if ms < 0 then ms = 0 end
  return string.format('%.0f', ms + SLACK)
end
"""

# `look` says what is there: R a record that lives, E a tombstone that stands, ? nothing of ours, or '' nothing. What is past its
# time is deleted, so that a clock that steps back does not revive it. `not (deadline <= now)`: NaN is for `load` to judge.
LOOK: Final = (
    SHARED
    + """
local head, deadline, seen, ends, vlen, ulen
local function look(more)
  head = redis.call('GETRANGE', KEYS[1], 0, 28 + more)
  local kind = string.sub(head, 1, 1)
  if kind == '' then
    return ''
  elseif kind == 'R' and #head >= 29 then
    deadline, seen, ends, vlen, ulen = struct.unpack('>dddHH', head, 2)
    if not (deadline <= now) then return 'R' end
  elseif kind == 'E' and #head >= 9 then
    if struct.unpack('>d', head, 2) + 60 > now then return 'E' end
  else
    return '?'
  end
  redis.call('DEL', KEYS[1])
  return ''
end
local function is_version(expected)
  return vlen == #expected and string.sub(head, 30, 29 + vlen) == expected
end
local function all() return redis.call('GETRANGE', KEYS[1], 0, -1) end
"""
)

PUT: Final = Script(
    "put",
    LOOK
    + """
-- now, how (create; replace: times only move forward; set: times as they are), expected version, value, 'keep' or no more
-- 1: written ('keep': a list of what was there before, '' for nothing). Text: what is there instead. nil: nothing is there.
local how, expected, value = ARGV[2], ARGV[3], ARGV[4]
local there = look(#expected)
if how == 'create' then
  if there ~= '' then return all() end
elseif there == '' then
  return false
elseif there ~= 'R' or not is_version(expected) then
  return all()
end
local due, seen_at, latest = struct.unpack('>ddd', value, 2)
if how == 'replace' and (deadline > due or seen > seen_at) then
  due, seen_at = math.min(math.max(deadline, due), latest), math.max(seen, seen_at)
  value = 'R' .. struct.pack('>dd', due, seen_at) .. string.sub(value, 18)
end
local before = ''
if ARGV[5] == 'keep' and there ~= '' then before = all() end
redis.call('SET', KEYS[1], value, 'PX', left(due))
if ARGV[5] == 'keep' then return {before} end
return 1
""",
    answers=TEXT_OR_NOTHING | NUMBER | LIST,
)

TOUCH: Final = Script(
    "touch",
    LOOK
    + """
-- now, expected version, deadline, seen_at. 1: moved. 0: refused. Sixteen octets are overwritten, the rest stays where it is.
if look(#ARGV[2]) ~= 'R' or not is_version(ARGV[2]) then return 0 end
local due = math.min(math.max(deadline, tonumber(ARGV[3])), ends)
local seen_at = math.max(seen, tonumber(ARGV[4]))
if due ~= deadline or seen_at ~= seen then
  redis.call('SETRANGE', KEYS[1], 1, struct.pack('>dd', due, seen_at))
  redis.call('PEXPIRE', KEYS[1], left(due))
end
return 1
""",
    answers=NUMBER,
)

END: Final = Script(
    "end",
    LOOK
    + """
-- now, token, whose (any; version: only that one; user: only while it is theirs), version or user, channel, session key
-- 1: ended, now or by this token before. 2: there is another's tombstone. 0: nothing there, or not to be ended.
-- Whoever watches is told first: a server whose ACL forbids that refuses the whole, before anything has changed.
local token, whose = ARGV[2], ARGV[3]
local there = look(whose == 'version' and #ARGV[4] or 0)
if there == 'E' then
  return redis.call('GETRANGE', KEYS[1], 9, -1) == token and 1 or 2
elseif there == '' then
  return 0
elseif whose == 'version' then
  if there ~= 'R' or not is_version(ARGV[4]) then return 0 end
elseif whose == 'user' then
  if there ~= 'R' or ulen ~= #ARGV[4] or ulen == 65535 then return 0 end
  if ulen > 0 and redis.call('GETRANGE', KEYS[1], 29 + vlen, 28 + vlen + ulen) ~= ARGV[4] then return 0 end
end
redis.call('PUBLISH', ARGV[5], ARGV[6])
local made = redis.pcall('SET', KEYS[1], 'E' .. struct.pack('>d', now) .. token, 'PX', 360000)
if made.err then redis.call('DEL', KEYS[1]) end  -- out of memory: a logout works all the same
return 1
""",
    answers=NUMBER,
)

PURGE: Final = Script(
    "purge",
    LOOK
    + """
-- now. 1: a record past its deadline was deleted. 0: none was.
local before = redis.call('GETRANGE', KEYS[1], 0, 0)
return before == 'R' and look(0) ~= 'R' and 1 or 0
""",
    answers=NUMBER,
)

FORGET: Final = Script(
    "forget",
    LOOK
    + """
-- now. Delete a tombstone that is past its time.
return look(0) == '' and 1 or 0
""",
    answers=NUMBER,
)

RESTORE: Final = Script(
    "restore",
    LOOK
    + """
-- now, version, what was there before ('': nothing). 1: that version was taken back. 0: it is not there any more.
if look(#ARGV[2]) ~= 'R' or not is_version(ARGV[2]) then return 0 end
if ARGV[3] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', left(struct.unpack('>d', ARGV[3], 2)))
end
return 1
""",
    answers=NUMBER,
)

LIVES: Final = Script(
    "lives",
    SHARED
    + """
-- now. 1: a record that lives.
local head = redis.call('GETRANGE', KEYS[1], 0, 8)
return #head == 9 and string.sub(head, 1, 1) == 'R' and struct.unpack('>d', head, 2) > now and 1 or 0
""",
    reads=True,
    answers=NUMBER,
)

PROBE: Final = Script(
    "probe",
    """
-- channel. Do what every other script does, to nobody's record.
redis.call('PUBLISH', ARGV[1], '')
redis.call('SET', KEYS[1], 'probe', 'PX', 60000)
return 1
""",
    answers=NUMBER,
)

# --------------------------------------------------------------------------------------------------------- counters

# A hash: `n` the count, `u` until when. Times go in and out as text: a script's numbers come back as whole ones.
TALLY: Final = Script(
    "tally",
    SHARED
    + """
-- now, amount, until, 'prolong' or ''
local there = {redis.call('HGET', KEYS[1], 'n'), redis.call('HGET', KEYS[1], 'u')}
local count, ends = tonumber(ARGV[2]), ARGV[3]
if there[1] and tonumber(there[2]) > now then
  count = count + tonumber(there[1])
  if not (ARGV[4] == 'prolong' and tonumber(ends) > tonumber(there[2])) then ends = there[2] end
end
if count < 0 then count = 0 end
redis.call('HSET', KEYS[1], 'n', count, 'u', ends)
redis.call('PEXPIRE', KEYS[1], left(tonumber(ends)))
return {count, ends}
""",
    answers=LIST,
)
FORGET_TALLY: Final = Script(
    "forget tally",
    "return redis.call('DEL', KEYS[1])",
    answers=NUMBER,
)
TALLIED: Final = Script(
    "tallied",
    """
return {redis.call('HGET', KEYS[1], 'n'), redis.call('HGET', KEYS[1], 'u')}
""",
    reads=True,
    answers=LIST,
)

# ---------------------------------------------------------------------------------------------------------- one user

# An entry beside the index is a letter and two doubles: (p)ending until the record is known to be written, (c)onfirmed,
# (v)ictim of the limit; the time of the index write in microseconds of the server's clock; the time of the login.
USER: Final = (
    SHARED
    + """
local index, beside, fence = KEYS[1], KEYS[2], KEYS[3]
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function state(entry) return string.sub(entry, 1, 1) end
local function written(entry) return (struct.unpack('>d', entry, 2)) end
local function remove(key)
  redis.call('ZREM', index, key)
  redis.call('HDEL', beside, key)
end
local function trim()  -- what is long past its absolute deadline, by whichever clock
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now - SLACK / 1000, 'LIMIT', 0, 100)) do remove(key) end
end
local function put(key, ends, entry)
  redis.call('ZADD', index, 'GT', ends, key)  -- GT: what is there may live longer than what is only being tried
  redis.call('HSET', beside, key, entry)
  local ms = left(tonumber(ends))
  for n = 1, 2 do
    if redis.call('PTTL', KEYS[n]) < tonumber(ms) then redis.call('PEXPIRE', KEYS[n], ms) end
  end
end
"""
)

INDEX: Final = Script(
    "index",
    USER
    + """
-- now, session key, ends_at, login time (packed). Returns the server's clock.
local there = redis.call('HGET', beside, ARGV[2])
local us = clock()
trim()
put(ARGV[2], ARGV[3], (there and state(there) == 'c' and 'c' or 'p') .. struct.pack('>d', us) .. ARGV[4])
return us
""",
    answers=NUMBER,
)

CONFIRM: Final = Script(
    "confirm",
    USER
    + """
-- now, session key, ends_at, login time (packed), began, own fence, limit (0: none), 'evict' or 'refuse', 'verified' or '',
-- then the entries that were found dead, as pairs
-- {'fenced'}, {'full'}, {'verify', clock, entries}: find out which of them live and ask again; {'saved', victims}
local key, limit = ARGV[2], tonumber(ARGV[7])
local raised = redis.call('GETRANGE', fence, 0, -1)
if raised ~= '' and tonumber(ARGV[5]) <= tonumber(raised) and raised ~= ARGV[6] then return {'fenced'} end
local us = clock()
local victims = {}
if limit > 0 and redis.call('ZCARD', index) >= limit then
  local dead, live = {}, {}
  for n = 10, #ARGV, 2 do dead[ARGV[n]] = ARGV[n + 1] end
  local entries = redis.call('HGETALL', beside)
  for n = 1, #entries, 2 do
    local other, entry = entries[n], entries[n + 1]
    if other ~= key and dead[other] ~= entry then
      if state(entry) == 'v' then
        victims[#victims + 1] = other
        victims[#victims + 1] = entry
      elseif state(entry) == 'c' or us - written(entry) > 60000000 then
        live[#live + 1] = {other, entry, (struct.unpack('>d', entry, 10))}
      end
    end
  end
  if #live >= limit then
    if ARGV[9] ~= 'verified' then return {'verify', us, entries} end
    if ARGV[8] ~= 'evict' then return {'full'} end
    table.sort(live, function(a, b) if a[3] ~= b[3] then return a[3] < b[3] end return a[1] < b[1] end)
    for n = 1, #live - limit + 1 do
      local entry = 'v' .. string.sub(live[n][2], 2)
      redis.call('HSET', beside, live[n][1], entry)
      victims[#victims + 1] = live[n][1]
      victims[#victims + 1] = entry
    end
  end
end
put(key, ARGV[3], 'c' .. struct.pack('>d', us) .. ARGV[4])
return {'saved', victims}
""",
    answers=LIST,
)

ENTRIES: Final = Script(
    "entries",
    USER
    + """
-- now, 'raise' or ''. Returns the server's clock, the fence that was raised, and the entries, as pairs.
local us, raised = clock(), 0
if ARGV[2] == 'raise' then
  raised = us
  local before = redis.call('GETRANGE', fence, 0, -1)
  -- Strictly above: a request that knows its own fence must not pass a later one of the same tick.
  if before ~= '' and tonumber(before) >= raised then raised = tonumber(before) + 1 end
  redis.call('SET', fence, string.format('%.0f', raised), 'PX', 86400000)
end
trim()
return {us, raised, redis.call('HGETALL', beside)}
""",
    answers=LIST,
)

HEAL: Final = Script(
    "heal",
    USER
    + """
-- now, then entries as pairs: each goes, unless it was written anew meanwhile.
for n = 2, #ARGV, 2 do
  if redis.call('HGET', beside, ARGV[n]) == ARGV[n + 1] then remove(ARGV[n]) end
end
return 1
""",
    answers=NUMBER,
)
