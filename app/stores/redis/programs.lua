-- Programs. KEYS[1] is the beginning of every key, ARGV[1] names the function that is called with the rest.
--
--   program:ID          hash: number, created_at, size, summary, document, bound
--   program:ID:names    zset: its names, the oldest first
--   program:ID:blobs    set: digests of its bound arrays
--   blob:DIGEST         hash: data, bytes, users (how many programs have bound it)
--   programs            zset: ids by number
--   unnamed             zset: ids of programs without a name by their last use
--   names               hash: ids by name
--   named               zset: names, the oldest first
--   bytes, number       bytes of programs and sessions together; the last number given
local prefix = KEYS[1]
local programs, unnamed, names, named = prefix .. 'programs', prefix .. 'unnamed', prefix .. 'names', prefix .. 'named'
local bytes, number = prefix .. 'bytes', prefix .. 'number'

local function program(id) return prefix .. 'program:' .. id end
local function blob(digest) return prefix .. 'blob:' .. digest end

local function find(key, is_id)
  local id = key
  if is_id ~= '1' then id = redis.call('HGET', names, key) end
  return id and redis.call('EXISTS', program(id)) == 1 and id
end

local function first_name(id)
  return redis.call('ZRANGE', program(id) .. ':names', 0, 0)[1]
end

local function delete(id)
  local key = program(id)
  for _, name in ipairs(redis.call('ZRANGE', key .. ':names', 0, -1)) do
    redis.call('HDEL', names, name)
    redis.call('ZREM', named, name)
  end
  for _, digest in ipairs(redis.call('SMEMBERS', key .. ':blobs')) do
    if redis.call('HINCRBY', blob(digest), 'users', -1) <= 0 then
      redis.call('DECRBY', bytes, redis.call('HGET', blob(digest), 'bytes') or 0)
      redis.call('DEL', blob(digest))
    end
  end
  redis.call('DECRBY', bytes, redis.call('HGET', key, 'size') or 0)
  redis.call('DEL', key, key .. ':names', key .. ':blobs')
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

-- id, name ('' for none), replace, now, unused_since, most, max_programs, max_bytes, size, summary, document, bound,
-- how many blobs, their bytes, then digest, length ... -> 'conflict', holder | 'full', count, bytes | 'kept', is_new,
-- name, created_at.
function functions.add()
  local id, name, replace, now, unused_since, most, max_programs, max_bytes, size, summary, document, bound =
    unpack(ARGV, 2, 13)
  local blobs = tonumber(ARGV[14])
  local lengths = 15 + blobs
  local key = program(id)
  local holder = name ~= '' and redis.call('HGET', names, name)
  if holder and holder ~= id and replace ~= '1' then return {'conflict', holder} end
  local is_new = redis.call('EXISTS', key) == 0
  if is_new then
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
        redis.call('HSET', blob(digest), 'data', ARGV[15 + place], 'bytes', length)
      end
    end
    redis.call('SET', bytes, string.format('%.0f', sum))
  end
  if name ~= '' and holder ~= id then
    if holder then
      redis.call('ZREM', program(holder) .. ':names', name)
      -- The former holder may have no other name: its time without use begins now.
      if not first_name(holder) then redis.call('ZADD', unnamed, now, holder) end
    end
    local n = redis.call('INCR', number)
    redis.call('HSET', names, name, id)
    redis.call('ZADD', named, n, name)
    redis.call('ZADD', key .. ':names', n, name)
  end
  if first_name(id) then redis.call('ZREM', unnamed, id) else redis.call('ZADD', unnamed, now, id) end
  local shown = name ~= '' and name or first_name(id) or ''
  return {'kept', is_new and 1 or 0, shown, redis.call('HGET', key, 'created_at')}
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

-- how many, after -> number, id, name, summary ...
function functions.list()
  local limit, after = unpack(ARGV, 2, 3)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', programs, '(' .. after, '+inf', 'LIMIT', 0, limit)) do
    local about = redis.call('HMGET', program(id), 'number', 'summary')
    for _, item in ipairs({about[1] or '', id, first_name(id) or '', about[2] or ''}) do found[#found + 1] = item end
  end
  return found
end

-- key, is_id -> whether there was one.
function functions.delete()
  local id = find(ARGV[2], ARGV[3])
  if not id then return 0 end
  delete(id)
  return 1
end

-- unused_since, most
function functions.sweep()
  sweep(ARGV[2], ARGV[3])
end

return functions[ARGV[1]]()
