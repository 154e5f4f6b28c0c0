-- Sessions. KEYS[1] is what every key begins with, ARGV[1] says which function is called with the rest.
--
--   session:ID          hash: what is known of it without its content, as `Head` says; client and key; ended is 1
--                       where it was found to have expired
--   session:ID:content  hash: document, answered, and its arrays by number; gone once it has expired
--   sessions            zset: ids by number
--   living, ended       zset: ids by when they expire; which of both says whether there is content
--   client:CLIENT       zset: ids by when they expire
--   session-keys        hash: ids by the key under which they were created
--   session-number      the last number given
local prefix = KEYS[1]
local sessions, living, ended = prefix .. 'sessions', prefix .. 'living', prefix .. 'ended'
local keys = prefix .. 'session-keys'

local function session(id) return prefix .. 'session:' .. id end
local function content(id) return prefix .. 'session:' .. id .. ':content' end
local function client(name) return prefix .. 'client:' .. name end

local function forget(id)
  local belongs, key = unpack(redis.call('HMGET', session(id), 'client', 'key'))
  redis.call('DEL', content(id))
  local found = redis.call('DEL', session(id))
  for _, set in ipairs({sessions, living, ended}) do redis.call('ZREM', set, id) end
  if belongs then redis.call('ZREM', client(belongs), id) end
  if key and key ~= '' then redis.call('HDEL', keys, key) end
  return found
end

local function expire_at(id, time)
  redis.call('HSET', session(id), 'expires_at', time)
  redis.call('ZADD', living, time, id)
  redis.call('ZADD', client(redis.call('HGET', session(id), 'client') or ''), time, id)
end

-- Puts fields and values in their places: ARGV from `from` to `to`.
local function put(hash, from, to)
  for n = from, to, 2 do redis.call('HSET', hash, ARGV[n], ARGV[n + 1]) end
end

local functions = {}

-- Lets go of what a session held that expired at a time.
local function finish(id, time)
  redis.call('DEL', content(id))
  redis.call('HSET', session(id), 'ended', 1)
  redis.call('ZREM', living, id)
  redis.call('ZREM', client(redis.call('HGET', session(id), 'client') or ''), id)
  redis.call('ZADD', ended, time, id)
end

-- Lets go of what sessions held that expired, and of those that expired long ago altogether.
local function sweep(now, forgotten, most)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ended, '-inf', forgotten, 'LIMIT', 0, most)) do forget(id) end
  local over = redis.call('ZRANGEBYSCORE', living, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  for n = 1, #over, 2 do finish(over[n], over[n + 1]) end
end

-- id, client, key, now, forgotten, most, max_sessions, max_per_client, expires_at, how many arguments are of the head,
-- field, value ... of the head, field, value ... of the content -> 'full', count, of_client | 'kept', id.
function functions.create()
  local id, belongs, key, now, forgotten, most, max_sessions, max_per_client, expires_at, of_head = unpack(ARGV, 2, 11)
  sweep(now, forgotten, most)
  local holder = key ~= '' and redis.call('HGET', keys, key)
  if holder then return {'kept', holder} end
  -- One that is there already is this one: the answer was lost, and it was sent again.
  if redis.call('EXISTS', session(id)) == 1 then return {'kept', id} end
  local count = redis.call('ZCOUNT', living, '(' .. now, '+inf')
  local of_client = redis.call('ZCOUNT', client(belongs), '(' .. now, '+inf')
  if count >= tonumber(max_sessions) or of_client >= tonumber(max_per_client) then
    return {'full', count, of_client}
  end
  -- Where memory has run out this is what fails, and nothing has happened.
  redis.call('HSET', session(id), 'client', belongs, 'key', key)
  put(session(id), 12, 11 + of_head)
  put(content(id), 12 + of_head, #ARGV)
  redis.call('ZADD', sessions, redis.call('INCR', prefix .. 'session-number'), id)
  expire_at(id, expires_at)
  if key ~= '' then redis.call('HSET', keys, key, id) end
  return {'kept', id}
end

-- id, revision before, revision after, expires_at, how many arguments are of the head, how many arrays are dropped,
-- field, value ... of the head, the dropped, field, value ... of the content -> whether it happened.
function functions.save()
  local id, before, after, expires_at, of_head, dropped = unpack(ARGV, 2, 7)
  local found = redis.call('HGET', session(id), 'revision')
  -- What is there already was this call: its answer was lost, and it was sent again.
  if found == after then return 1 end
  if found ~= before or redis.call('EXISTS', content(id)) == 0 then return 0 end
  -- Where memory has run out the first of these fails, and nothing has happened.
  local arrays = 8 + of_head
  put(content(id), arrays + dropped, #ARGV)
  for n = arrays, arrays + dropped - 1 do redis.call('HDEL', content(id), ARGV[n]) end
  put(session(id), 8, 7 + of_head)
  expire_at(id, expires_at)
  return 1
end

-- id, fields of the head ... -> their values, then field, value ... of the content
function functions.load()
  return {redis.call('HMGET', session(ARGV[2]), unpack(ARGV, 3)), redis.call('HGETALL', content(ARGV[2]))}
end

-- id, expires_at
function functions.touch()
  local id, expires_at = ARGV[2], ARGV[3]
  local now = redis.call('HGET', session(id), 'expires_at')
  if now and tonumber(now) < tonumber(expires_at) and redis.call('EXISTS', content(id)) == 1 then
    expire_at(id, expires_at)
  end
end

-- id, revision, expires_at: as they were when it was found to have expired.
functions['end'] = function()
  local id, revision, expires_at = unpack(ARGV, 2, 4)
  local found = redis.call('HMGET', session(id), 'revision', 'expires_at')
  if found[1] == revision and found[2] == expires_at then finish(id, expires_at) end
end

-- id -> whether there was one.
function functions.delete()
  return forget(ARGV[2])
end

return functions[ARGV[1]]()
