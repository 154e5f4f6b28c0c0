-- Sessions. KEYS[1] is the beginning of every key, ARGV[1] names the function that is called with the rest.
--
--   session:DIGEST          hash: the fields of `Head`; client; the digest of its idempotency key; ended is 1 where it
--                           was found to have expired
--   session:DIGEST:content  hash: document, answered, and its arrays by number; gone once it has expired
--   sessions                zset: digests by number
--   living, ended           zset: digests by time of expiry; living ones have content
--   client:CLIENT           zset: digests by time of expiry
--   session-keys            hash: sealed ids by the digest of the idempotency key
--   session-number          the last number given
--   bytes, client-bytes     bytes of programs and sessions together; hash: bytes of sessions by client
local prefix = KEYS[1]
local sessions, living, ended = prefix .. 'sessions', prefix .. 'living', prefix .. 'ended'
local keys = prefix .. 'session-keys'
local total, by_client = prefix .. 'bytes', prefix .. 'client-bytes'

local function session(digest) return prefix .. 'session:' .. digest end
local function content(digest) return prefix .. 'session:' .. digest .. ':content' end
local function client(name) return prefix .. 'client:' .. name end

-- Adds to the bytes of a client and of all.
local function count(belongs, growth)
  if growth == 0 then return end
  growth = string.format('%.0f', growth)
  redis.call('INCRBY', total, growth)
  if redis.call('HINCRBY', by_client, belongs, growth) <= 0 then redis.call('HDEL', by_client, belongs) end
end

-- The bytes of a client and of all after some more, and whether these are too many.
local function room(belongs, growth, max_client_bytes, max_bytes)
  local of_client = tonumber(redis.call('HGET', by_client, belongs) or 0) + growth
  local all = tonumber(redis.call('GET', total) or 0) + growth
  return of_client, all, of_client > tonumber(max_client_bytes) or all > tonumber(max_bytes)
end

local function forget(digest)
  local belongs, key, bytes = unpack(redis.call('HMGET', session(digest), 'client', 'key', 'bytes'))
  redis.call('DEL', content(digest))
  local found = redis.call('DEL', session(digest))
  for _, set in ipairs({sessions, living, ended}) do redis.call('ZREM', set, digest) end
  if belongs then
    redis.call('ZREM', client(belongs), digest)
    count(belongs, -(tonumber(bytes) or 0))
  end
  if key and key ~= '' then redis.call('HDEL', keys, key) end
  return found
end

local function expire_at(digest, time)
  redis.call('HSET', session(digest), 'expires_at', time)
  redis.call('ZADD', living, time, digest)
  redis.call('ZADD', client(redis.call('HGET', session(digest), 'client') or ''), time, digest)
end

-- Writes fields and values, which are ARGV from `from` to `to`, to a hash.
local function put(hash, from, to)
  for n = from, to, 2 do redis.call('HSET', hash, ARGV[n], ARGV[n + 1]) end
end

local functions = {}

-- Drops the content of a session that expired at a time.
local function finish(digest, time)
  local belongs, bytes = unpack(redis.call('HMGET', session(digest), 'client', 'bytes'))
  redis.call('DEL', content(digest))
  redis.call('HSET', session(digest), 'ended', 1, 'bytes', 0)
  redis.call('ZREM', living, digest)
  redis.call('ZREM', client(belongs or ''), digest)
  redis.call('ZADD', ended, time, digest)
  count(belongs or '', -(tonumber(bytes) or 0))
end

-- Forgets sessions that expired long ago, and drops the content of other expired ones; returns whether any were.
local function sweep(now, forgotten, most)
  local old = redis.call('ZRANGEBYSCORE', ended, '-inf', forgotten, 'LIMIT', 0, most)
  for _, digest in ipairs(old) do forget(digest) end
  local over = redis.call('ZRANGEBYSCORE', living, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  for n = 1, #over, 2 do finish(over[n], over[n + 1]) end
  return #old + #over > 0
end

-- digest, client, key, sealed, now, forgotten, most, max_sessions, max_per_client, max_client_bytes, max_bytes, bytes,
-- expires_at, how many arguments are of the head, field, value ... of the head, field, value ... of the content
-- -> 'full', count, of_client | 'large', bytes of the client, bytes of all | 'known', sealed | 'stored'.
function functions.create()
  local digest, belongs, key, sealed, now, forgotten, most = unpack(ARGV, 2, 8)
  local max_sessions, max_per_client, max_client_bytes, max_bytes, bytes, expires_at, of_head = unpack(ARGV, 9, 15)
  sweep(now, forgotten, most)
  -- One that is there already is this one: the response was lost, and the command was sent again.
  if redis.call('EXISTS', session(digest)) == 1 then return {'stored'} end
  local known = key ~= '' and redis.call('HGET', keys, key)
  if known then return {'known', known} end
  local number = redis.call('ZCOUNT', living, '(' .. now, '+inf')
  local of_client = redis.call('ZCOUNT', client(belongs), '(' .. now, '+inf')
  if number >= tonumber(max_sessions) or of_client >= tonumber(max_per_client) then
    return {'full', number, of_client}
  end
  local client_bytes, all, is_full = room(belongs, tonumber(bytes), max_client_bytes, max_bytes)
  if is_full then return {'large', client_bytes, all} end
  -- Where memory has run out this is what fails, and nothing has happened.
  redis.call('HSET', session(digest), 'client', belongs, 'key', key)
  put(session(digest), 16, 15 + of_head)
  put(content(digest), 16 + of_head, #ARGV)
  redis.call('ZADD', sessions, redis.call('INCR', prefix .. 'session-number'), digest)
  expire_at(digest, expires_at)
  if key ~= '' then redis.call('HSET', keys, key, sealed) end
  count(belongs, tonumber(bytes))
  return {'stored'}
end

-- digest, revision before, revision after, now, forgotten, most, max_client_bytes, max_bytes, bytes, shrinks, expires_at,
-- how many arguments are of the head, how many arrays are dropped, field, value ... of the head, the dropped, field,
-- value ... of the content -> 'large', bytes of the client, bytes of all | 'stored' | 'refused'.
function functions.save()
  local digest, before, after, now, forgotten, most, max_client_bytes, max_bytes, bytes, shrinks = unpack(ARGV, 2, 11)
  local expires_at, of_head, dropped = unpack(ARGV, 12, 14)
  local found, belongs, size = unpack(redis.call('HMGET', session(digest), 'revision', 'client', 'bytes'))
  -- What is there already was this call: its response was lost, and it was sent again.
  if found == after then return {'stored'} end
  if found ~= before then return {'refused'} end
  local growth = tonumber(bytes) - tonumber(size or 0)
  if growth > 0 and shrinks ~= '1' then
    local client_bytes, all, is_full = room(belongs, growth, max_client_bytes, max_bytes)
    if is_full and sweep(now, forgotten, most) then
      client_bytes, all, is_full = room(belongs, growth, max_client_bytes, max_bytes)
    end
    if is_full then return {'large', client_bytes, all} end
  end
  if redis.call('EXISTS', content(digest)) == 0 then return {'refused'} end
  -- Where memory has run out the first of these fails, and nothing has happened.
  local arrays = 15 + of_head
  put(content(digest), arrays + dropped, #ARGV)
  for n = arrays, arrays + dropped - 1 do redis.call('HDEL', content(digest), ARGV[n]) end
  put(session(digest), 15, 14 + of_head)
  expire_at(digest, expires_at)
  count(belongs, growth)
  return {'stored'}
end

-- now, forgotten, most -> whether there were any.
function functions.sweep()
  return sweep(unpack(ARGV, 2, 4)) and 1 or 0
end

-- digest, fields of the head ... -> their values, then field, value ... of the content
function functions.load()
  return {redis.call('HMGET', session(ARGV[2]), unpack(ARGV, 3)), redis.call('HGETALL', content(ARGV[2]))}
end

-- digest, expires_at
function functions.touch()
  local digest, expires_at = ARGV[2], ARGV[3]
  local now = redis.call('HGET', session(digest), 'expires_at')
  if now and tonumber(now) < tonumber(expires_at) and redis.call('EXISTS', content(digest)) == 1 then
    expire_at(digest, expires_at)
  end
end

-- digest, revision, expires_at: as they were when it was found to have expired.
functions['end'] = function()
  local digest, revision, expires_at = unpack(ARGV, 2, 4)
  local found = redis.call('HMGET', session(digest), 'revision', 'expires_at', 'ended')
  if found[1] == revision and found[2] == expires_at and found[3] ~= '1' then finish(digest, expires_at) end
end

-- digest -> whether there was one.
function functions.delete()
  return forget(ARGV[2])
end

-- id, digest: renames a session of schema 1, which was stored by its id, and counts its bytes. Its idempotency key is
-- dropped: nothing tells the id for it any more.
function functions.migrate()
  local id, digest = ARGV[2], ARGV[3]
  if redis.call('EXISTS', session(id)) == 0 then return end
  local belongs, key, bytes = unpack(redis.call('HMGET', session(id), 'client', 'key', 'bytes'))
  redis.call('RENAME', session(id), session(digest))
  if redis.call('EXISTS', content(id)) == 1 then redis.call('RENAME', content(id), content(digest)) else bytes = 0 end
  redis.call('HSET', session(digest), 'digest', digest, 'key', '', 'bytes', bytes)
  redis.call('HDEL', session(digest), 'id')
  for _, set in ipairs({sessions, living, ended, client(belongs)}) do
    local score = redis.call('ZSCORE', set, id)
    if score then
      redis.call('ZREM', set, id)
      redis.call('ZADD', set, score, digest)
    end
  end
  if key ~= '' then redis.call('HDEL', keys, key) end
  count(belongs, tonumber(bytes))
end

return functions[ARGV[1]]()
