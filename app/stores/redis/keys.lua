-- Keys. KEYS[1] is the beginning of every key, ARGV[1] names the function that is called with the rest.
--
--   keys            hash: records as JSON by number
--   keys-number     the last number given
--   keys-revision   counts changes
local prefix = KEYS[1]
local keys, number, revision = prefix .. 'keys', prefix .. 'keys-number', prefix .. 'keys-revision'

local functions = {}

-- record -> its number. A record that is there already was this call: its answer was lost, and it was sent again.
function functions.add()
  local found = redis.call('HGETALL', keys)
  for n = 1, #found, 2 do
    if found[n + 1] == ARGV[2] then return tonumber(found[n]) end
  end
  local given = redis.call('INCR', number)
  redis.call('HSET', keys, given, ARGV[2])
  redis.call('INCR', revision)
  return given
end

-- number, record before, record after -> whether it is there now.
function functions.swap()
  local given, before, after = unpack(ARGV, 2, 4)
  local found = redis.call('HGET', keys, given)
  if found == after then return 1 end
  if found ~= before then return 0 end
  redis.call('HSET', keys, given, after)
  redis.call('INCR', revision)
  return 1
end

return functions[ARGV[1]]()
