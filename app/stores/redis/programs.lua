-- Programs. KEYS[1] is the beginning of every key, ARGV[1] names the function that is called with the rest.
--
--   program:ID          hash: number, created_at, size, summary, document, bound
--   program:ID:names    zset: its names, the oldest first
--   program:ID:blobs    set: digests of its bound arrays
--   program:ID:owners   set: ids of the keys that own it; '' for whoever runs the server
--   claims:OWNER        zset: ids of the programs of an owner by number
--   blob:DIGEST         hash: data, bytes, users (how many programs have bound it)
--   programs            zset: ids by number
--   unnamed             zset: ids of programs without a name by their last use
--   names               hash: ids by name
--   name-owners         hash: owners by name; those that belong to whoever runs the server are missing
--   named               zset: names, the oldest first
--   bytes, number       bytes of programs and sessions together; the last number given
local prefix = KEYS[1]
local programs, unnamed, names, named = prefix .. 'programs', prefix .. 'unnamed', prefix .. 'names', prefix .. 'named'
local bytes, number = prefix .. 'bytes', prefix .. 'number'
local name_owners = prefix .. 'name-owners'

local function program(id) return prefix .. 'program:' .. id end
local function owners(id) return prefix .. 'program:' .. id .. ':owners' end
local function claims(owner) return prefix .. 'claims:' .. owner end
local function blob(digest) return prefix .. 'blob:' .. digest end

local function find(key, is_id)
  local id = key
  if is_id ~= '1' then id = redis.call('HGET', names, key) end
  return id and redis.call('EXISTS', program(id)) == 1 and id
end

local function first_name(id)
  return redis.call('ZRANGE', program(id) .. ':names', 0, 0)[1]
end

-- The owner of a name, '' for whoever runs the server.
local function name_owner(name) return redis.call('HGET', name_owners, name) or '' end

local function forget_name(id, name)
  redis.call('HDEL', names, name)
  redis.call('HDEL', name_owners, name)
  redis.call('ZREM', named, name)
  redis.call('ZREM', program(id) .. ':names', name)
end

local function delete(id)
  local key = program(id)
  for _, name in ipairs(redis.call('ZRANGE', key .. ':names', 0, -1)) do forget_name(id, name) end
  for _, owner in ipairs(redis.call('SMEMBERS', owners(id))) do redis.call('ZREM', claims(owner), id) end
  for _, digest in ipairs(redis.call('SMEMBERS', key .. ':blobs')) do
    if redis.call('HINCRBY', blob(digest), 'users', -1) <= 0 then
      redis.call('DECRBY', bytes, redis.call('HGET', blob(digest), 'bytes') or 0)
      redis.call('DEL', blob(digest))
    end
  end
  redis.call('DECRBY', bytes, redis.call('HGET', key, 'size') or 0)
  redis.call('DEL', key, key .. ':names', key .. ':blobs', owners(id))
  redis.call('ZREM', programs, id)
  redis.call('ZREM', unnamed, id)
end

local function sweep(unused_since, most)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', unnamed, '-inf', '(' .. unused_since, 'LIMIT', 0, most)) do
    delete(id)
  end
end

-- Number and bytes with one more program; `blobs` alternates digests and lengths, from the argument `from` on.
local function total(size, from)
  local count = redis.call('ZCARD', programs) + 1
  local sum = tonumber(redis.call('GET', bytes) or 0) + size
  for n = from, #ARGV, 2 do
    if redis.call('EXISTS', blob(ARGV[n])) == 0 then sum = sum + ARGV[n + 1] end
  end
  return count, sum
end

-- Drops unused programs where there is no room; returns number and bytes with one more, and whether these are too many.
local function make_room(unused_since, most, max_programs, max_bytes, size, from)
  local count, sum = total(size, from)
  if count > tonumber(max_programs) or sum > tonumber(max_bytes) then
    sweep(unused_since, most)
    count, sum = total(size, from)
  end
  return count, sum, count > tonumber(max_programs) or sum > tonumber(max_bytes)
end

local functions = {}

-- id, unused_since, most, max_programs, max_bytes, size, then digest, length ... -> nil, or count and bytes: no room.
function functions.check_room()
  local id, unused_since, most, max_programs, max_bytes, size = unpack(ARGV, 2, 7)
  if redis.call('EXISTS', program(id)) == 1 then return nil end
  local count, sum, is_full = make_room(unused_since, most, max_programs, max_bytes, size, 8)
  return is_full and {count, sum} or nil
end

-- owner, is_admin, max_claims, id, name ('' for none), replace, now, unused_since, most, max_programs, max_bytes, size,
-- summary, document, bound, how many blobs, their bytes, then digest, length ... -> 'taken', owner of the name |
-- 'conflict', holder | 'quota', number of claims | 'full', count, bytes | 'kept', whether it is new to the owner, name,
-- created_at, owner of the name before.
function functions.add()
  local owner, is_admin, max_claims = unpack(ARGV, 2, 4)
  local id, name, replace, now, unused_since, most, max_programs, max_bytes, size, summary, document, bound =
    unpack(ARGV, 5, 16)
  local blobs = tonumber(ARGV[17])
  local lengths = 18 + blobs
  local key = program(id)
  local holder = name ~= '' and redis.call('HGET', names, name)
  local belongs = owner
  if holder and holder ~= id then
    belongs = name_owner(name)
    if is_admin ~= '1' and belongs ~= owner then return {'taken', belongs} end
    if replace ~= '1' then return {'conflict', holder} end
  end
  local is_new = redis.call('SISMEMBER', owners(id), owner) == 0
  local claimed = redis.call('ZCARD', claims(owner)) + 1
  if is_new and tonumber(max_claims) >= 0 and claimed > tonumber(max_claims) then return {'quota', claimed} end
  if redis.call('EXISTS', key) == 0 then
    local count, sum, is_full = make_room(unused_since, most, max_programs, max_bytes, size, lengths)
    if is_full then return {'full', count, sum} end
    -- Where memory has run out this is what fails, and nothing has happened.
    redis.call('HSET', key, 'document', document, 'summary', summary, 'bound', bound, 'size', size, 'created_at', now)
    local n = redis.call('INCR', number)
    redis.call('HSET', key, 'number', n)
    redis.call('ZADD', programs, n, id)
    for place = 0, blobs - 1 do
      local digest, length = ARGV[lengths + 2 * place], ARGV[lengths + 2 * place + 1]
      if redis.call('SADD', key .. ':blobs', digest) == 1 and redis.call('HINCRBY', blob(digest), 'users', 1) == 1 then
        redis.call('HSET', blob(digest), 'data', ARGV[18 + place], 'bytes', length)
      end
    end
    redis.call('SET', bytes, string.format('%.0f', sum))
  end
  if is_new then
    redis.call('SADD', owners(id), owner)
    redis.call('ZADD', claims(owner), redis.call('INCR', number), id)
  end
  if name ~= '' and holder ~= id then
    if holder then
      redis.call('ZREM', program(holder) .. ':names', name)
      -- The former holder may have no other name: its time without use begins now.
      if not first_name(holder) then redis.call('ZADD', unnamed, now, holder) end
    end
    local n = redis.call('INCR', number)
    redis.call('HSET', names, name, id)
    if owner ~= '' then redis.call('HSET', name_owners, name, owner) else redis.call('HDEL', name_owners, name) end
    redis.call('ZADD', named, n, name)
    redis.call('ZADD', key .. ':names', n, name)
  end
  if first_name(id) then redis.call('ZREM', unnamed, id) else redis.call('ZADD', unnamed, now, id) end
  local shown = name ~= '' and name or first_name(id) or ''
  return {'kept', is_new and 1 or 0, shown, redis.call('HGET', key, 'created_at'), belongs}
end

-- key, is_id, now, precision -> id or nil. A program that can be read is found though nothing can be written.
function functions.resolve()
  local key, is_id, now, precision = unpack(ARGV, 2, 5)
  local id = find(key, is_id)
  local used = id and redis.call('ZSCORE', unnamed, id)
  if used and tonumber(now) - tonumber(used) > tonumber(precision) then redis.pcall('ZADD', unnamed, now, id) end
  return id
end

-- id -> document, summary, bound, created_at, name
function functions.load()
  local found = redis.call('HMGET', program(ARGV[2]), 'document', 'summary', 'bound', 'created_at')
  found[5] = first_name(ARGV[2]) or false
  return found
end

-- The oldest name that an owner gave a program; without an owner, the oldest.
local function own_name(id, owner)
  if not owner then return first_name(id) end
  for _, name in ipairs(redis.call('ZRANGE', program(id) .. ':names', 0, -1)) do
    if name_owner(name) == owner then return name end
  end
end

-- how many, after, owner (of all, where there is none) -> number, id, name, summary ...
function functions.list()
  local limit, after, owner = unpack(ARGV, 2, 4)
  local set, found = owner and claims(owner) or programs, {}
  local ids = redis.call('ZRANGEBYSCORE', set, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
  for n = 1, #ids, 2 do
    local id = ids[n]
    local summary = redis.call('HGET', program(id), 'summary')
    for _, item in ipairs({ids[n + 1], id, own_name(id, owner) or '', summary or ''}) do found[#found + 1] = item end
  end
  return found
end

-- owner, is_admin, max_claims, key, is_id -> whether the program belongs to the owner.
function functions.owns()
  local owner, is_admin, _, key, is_id = unpack(ARGV, 2, 6)
  local id = find(key, is_id)
  if not id then return 0 end
  if is_admin == '1' and redis.call('SISMEMBER', owners(id), '') == 1 then return 1 end
  return redis.call('SISMEMBER', owners(id), owner)
end

-- owner, is_admin, max_claims, key, is_id, now, whether to delete it for all -> 0: there is none | 1: it belongs to the
-- owner no more | 2: it is gone for all | its id: it belongs to others.
function functions.delete()
  local owner, is_admin, _, key, is_id, now, for_all = unpack(ARGV, 2, 8)
  local id = find(key, is_id)
  if not id then return 0 end
  if for_all == '1' then
    delete(id)
    return 2
  end
  local dropped = 0
  for _, own in ipairs(is_admin == '1' and owner ~= '' and {owner, ''} or {owner}) do
    dropped = dropped + redis.call('SREM', owners(id), own)
    redis.call('ZREM', claims(own), id)
    for _, name in ipairs(redis.call('ZRANGE', program(id) .. ':names', 0, -1)) do
      if name_owner(name) == own then forget_name(id, name) end
    end
  end
  -- An admin asked before: where nothing is left this was done already, and its response was lost.
  if dropped == 0 and is_admin ~= '1' then return id end
  if redis.call('EXISTS', owners(id)) == 0 then
    delete(id)
  elseif not first_name(id) then
    redis.call('ZADD', unnamed, now, id)
  end
  return 1
end

-- Gives programs that have no owner to whoever runs the server.
function functions.migrate()
  for _, id in ipairs(redis.call('ZRANGE', programs, 0, -1)) do
    if redis.call('EXISTS', owners(id)) == 0 then
      redis.call('SADD', owners(id), '')
      redis.call('ZADD', claims(''), redis.call('HGET', program(id), 'number') or 0, id)
    end
  end
end

-- unused_since, most
function functions.sweep()
  sweep(ARGV[2], ARGV[3])
end

return functions[ARGV[1]]()
