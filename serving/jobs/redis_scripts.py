"""The Lua scripts of `redis_store`; each is one indivisible change.

Keys below the prefix: `job:ID` the job (a hash), `due` ids by the time they may start or their lease ends, `deliver`
ids by the time their webhook is due, `bytes` the size of all pictures in `due`, `idem:KEY` the id of a client's key.
Times are those of Redis, so that machines need not agree.
"""

from __future__ import annotations

_CLOCK = """
local p = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local function text(number) return string.format('%.6f', number) end
local function settle(id, state, field, value, seconds)
  local key = p .. 'job:' .. id
  redis.call('DECRBY', p .. 'bytes', redis.call('HGET', key, 'size') or 0)
  redis.call('ZREM', p .. 'due', id)
  redis.call('HDEL', key, 'content', 'token', 'error')
  redis.call('HSET', key, 'state', state, field, value, 'finished', text(now), 'expires', text(now + seconds))
  redis.call('EXPIRE', key, seconds)
  if (redis.call('HGET', key, 'webhook') or '') ~= '' then redis.call('ZADD', p .. 'deliver', text(now), id) end
end
local function holds(id, field, token) return redis.call('HGET', p .. 'job:' .. id, field) == token end
"""

_SUBMIT = """
local id, idempotency, fingerprint = ARGV[1], ARGV[2], ARGV[3]
if idempotency ~= '' then
  local earlier = redis.call('GET', p .. 'idem:' .. idempotency)
  local known = earlier and redis.call('HGET', p .. 'job:' .. earlier, 'fingerprint')
  if known == fingerprint then return {'old', earlier} end
  if known then return {'reused', ''} end
end
local jobs = redis.call('ZCARD', p .. 'due')
local bytes = tonumber(redis.call('GET', p .. 'bytes') or 0)
if jobs >= tonumber(ARGV[4]) then return {'full', jobs .. ' jobs'} end
local key = p .. 'job:' .. id
redis.call('HSET', key, 'state', 'waiting', 'attempts', 0, unpack(ARGV, 6))
local size = tonumber(redis.call('HGET', key, 'size'))
if jobs > 0 and bytes + size > tonumber(ARGV[5]) then
  redis.call('DEL', key)
  return {'full', bytes .. ' bytes of pictures'}
end
redis.call('INCRBY', p .. 'bytes', size)
redis.call('ZADD', p .. 'due', text(now), id)
if idempotency ~= '' then
  redis.call('SET', p .. 'idem:' .. idempotency, id)
  redis.call('HSET', key, 'idempotency', idempotency)
end
return {'new', id}
"""

_LEASE = """
local id, token, seconds = ARGV[1], ARGV[2], tonumber(ARGV[3])
if id == '' then
  id = redis.call('ZRANGEBYSCORE', p .. 'due', '-inf', text(now), 'LIMIT', 0, 1)[1]
  if not id then return nil end
end
local due = redis.call('ZSCORE', p .. 'due', id)
if not due or tonumber(due) > now then return nil end
local key = p .. 'job:' .. id
if redis.call('EXISTS', key) == 0 then redis.call('ZREM', p .. 'due', id) return nil end
local attempts = tonumber(redis.call('HGET', key, 'attempts')) + 1
redis.call('HSET', key, 'token', token)
redis.call('ZADD', p .. 'due', text(now + seconds), id)
if attempts <= tonumber(ARGV[4]) then redis.call('HSET', key, 'state', 'running', 'attempts', attempts) end
return {id, attempts, redis.call('HGET', key, 'request'), redis.call('HGET', key, 'content') or ''}
"""

_EXTEND = """
if not holds(ARGV[1], 'token', ARGV[2]) then return 0 end
redis.call('ZADD', p .. 'due', 'XX', text(now + tonumber(ARGV[3])), ARGV[1])
return 1
"""

_FINISH = """
local id, key = ARGV[1], p .. 'job:' .. ARGV[1]
if not holds(id, 'token', ARGV[2]) then return 0 end
settle(id, ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))
local idempotency = redis.call('HGET', key, 'idempotency')
if idempotency then redis.call('EXPIRE', p .. 'idem:' .. idempotency, ARGV[6]) end
return 1
"""

_RETRY = """
if not holds(ARGV[1], 'token', ARGV[2]) then return 0 end
local key = p .. 'job:' .. ARGV[1]
redis.call('HDEL', key, 'token')
redis.call('HSET', key, 'state', 'waiting', 'error', ARGV[4])
redis.call('ZADD', p .. 'due', text(now + tonumber(ARGV[3])), ARGV[1])
return 1
"""

_LEASE_DELIVERY = """
local id = redis.call('ZRANGEBYSCORE', p .. 'deliver', '-inf', text(now), 'LIMIT', 0, 1)[1]
if not id then return nil end
local key = p .. 'job:' .. id
local url = redis.call('HGET', key, 'webhook')
if not url then redis.call('ZREM', p .. 'deliver', id) return nil end
redis.call('HSET', key, 'delivery_token', ARGV[1])
redis.call('HINCRBY', key, 'delivery_attempts', 1)
redis.call('ZADD', p .. 'deliver', text(now + tonumber(ARGV[2])), id)
return {id, url}
"""

_SETTLE_DELIVERY = """
local id, key = ARGV[1], p .. 'job:' .. ARGV[1]
if not holds(id, 'delivery_token', ARGV[2]) then return 0 end
redis.call('HDEL', key, 'delivery_token')
redis.call('HSET', key, 'delivery', ARGV[3], 'delivery_error', ARGV[4])
if ARGV[5] == '' then redis.call('ZREM', p .. 'deliver', id)
else redis.call('ZADD', p .. 'deliver', text(now + tonumber(ARGV[5])), id) end
return 1
"""

_LOAD = "return {redis.call('ZCARD', p .. 'due'), tonumber(redis.call('GET', p .. 'bytes') or 0)}"

SCRIPTS: dict[str, str] = {
    "submit": _CLOCK + _SUBMIT,
    "lease": _CLOCK + _LEASE,
    "extend": _CLOCK + _EXTEND,
    "finish": _CLOCK + _FINISH,
    "retry": _CLOCK + _RETRY,
    "lease_delivery": _CLOCK + _LEASE_DELIVERY,
    "settle_delivery": _CLOCK + _SETTLE_DELIVERY,
    "load": _CLOCK + _LOAD,
}
