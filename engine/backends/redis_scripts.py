"""The scripts that change a batch in one step, each with the state it must find.

No script touches JSON of essays: what Lua makes of `[]` and of large integers is not what was
there. Texts are compared and set as they are; only the published summary is put together here.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

ABSENT: Final = "\x00absent"
"""Stands for "there must be nothing" among expected values; no document begins like this."""

SAME: Final = "="
"""Stands for a copy that has the same bytes as the document."""

_PUBLISH = r"""
local function publish(ttl, token)
  local names, numbers = {}, {}
  local fields = redis.call('HGETALL', KEYS[2])
  for i = 1, #fields, 2 do
    numbers[fields[i]] = fields[i + 1]
    if string.sub(fields[i], 1, 2) == 'c:' then names[#names + 1] = string.sub(fields[i], 3) end
  end
  local total = math.max(tonumber(numbers['n'] or '0'), tonumber(numbers['x'] or '0'))
  local parts = {}
  for i, name in ipairs(names) do
    parts[i] = '"' .. name .. '": {"completed": ' .. numbers['c:' .. name]
      .. ', "total": ' .. string.format('%.0f', total) .. ', "bcs_tui": "' .. token .. '"}'
  end
  local text = '{' .. table.concat(parts, ', ') .. '}'
  if #parts == 0 then
    text = '{' .. string.gsub(token, '.', function(c)
      return string.rep(' ', 1 + string.byte(c) % 16) .. '\n' end) .. '}'
  end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local expires = now + ttl * 1000
  if not numbers['until'] or expires < tonumber(numbers['until']) then
    numbers['until'] = string.format('%.0f', expires)
    redis.call('HSET', KEYS[2], 'until', numbers['until'])
  end
  redis.call('SETEX', KEYS[1], ttl, text)
  redis.call('HSET', KEYS[2], 'sum', text)
  redis.call('EXPIRE', KEYS[2], ttl)
  return numbers['ok'] == '1' and now < tonumber(numbers['until'])
end

local function chain(token)
  local sum = redis.call('HGET', KEYS[2], 'sum')
  local stored = redis.pcall('GET', KEYS[1])
  if sum == false then
    redis.call('HSET', KEYS[2], 'chain', token, 'born', token, 'ok', '0')
  elseif stored ~= sum then
    redis.call('HSET', KEYS[2], 'chain', token, 'born', '', 'ok', '0')
  end
  if sum ~= false and ARGV[4] == '\0absent' and redis.call('EXISTS', KEYS[3]) == 0 then
    -- The record of the batch was dropped: only an archive still has all of it.
    redis.call('HSET', KEYS[2], 'archived', '-1')
  end
end
"""

WRITE: Final = (
    _PUBLISH
    + r"""
-- KEYS: summary, index, batch, essays, uploads, phases, then documents
-- ARGV: ttl, token, expected, batch before, batch after, count of uploads, count of phase words,
--   uploads, phase words, (essay, document before, copy before, document after)...,
--   (count of essays, count of pairs, (field, change)...)...
local ABSENT = '\0absent'
-- A number would be written out again for every command.
local ttl, token = ARGV[1], ARGV[2]
local entries = tonumber(redis.call('HGET', KEYS[2], 'e') or '0')
if entries ~= redis.call('HLEN', KEYS[4]) then return {'lost'} end
local function differs(stored, expected)
  if stored == false then return expected ~= ABSENT end
  return stored ~= expected
end
if ARGV[5] ~= '' and differs(redis.call('GET', KEYS[3]), ARGV[4]) then return {'batch'} end
if ARGV[5] == '' and ARGV[4] ~= ABSENT and redis.call('EXISTS', KEYS[3]) == 0 then
  return {'batch'}
end

local place = 8
local uploads, phases = {}, {}
for i = 1, tonumber(ARGV[6]) do uploads[i] = ARGV[place]; place = place + 1 end
for i = 1, tonumber(ARGV[7]) do phases[i] = ARGV[place]; place = place + 1 end

local count = #KEYS - 6
if count > 0 then
  local ids, new = {}, {}
  for i = 1, count do ids[i] = ARGV[place + (i - 1) * 4] end
  local stored = redis.call('MGET', unpack(KEYS, 7))
  local copies = redis.call('HMGET', KEYS[4], unpack(ids))
  local bad = {'essays'}
  for i = 1, count do
    local at = place + (i - 1) * 4
    local copy = ARGV[at + 2]
    if copy == '=' then copy = ARGV[at + 1] end
    if differs(stored[i], ARGV[at + 1]) or differs(copies[i], copy) then
      bad[#bad + 1] = i
    elseif stored[i] == false then
      new[#new + 1] = KEYS[6 + i]
    end
  end
  if #bad > 1 then return bad end
  if #new > 0 and redis.call('EXISTS', unpack(new)) > 0 then return {'type'} end
  local hash = {}
  for i = 1, count do
    local text = ARGV[place + i * 4 - 1]
    redis.call('SETEX', KEYS[6 + i], ttl, text)
    hash[i * 2 - 1] = ids[i]
    hash[i * 2] = text
  end
  chain(token)
  redis.call('HSET', KEYS[4], unpack(hash))
  place = place + count * 4
  while place <= #ARGV do
    local times, pairs = tonumber(ARGV[place]), tonumber(ARGV[place + 1])
    place = place + 2
    for i = 1, pairs do
      redis.call('HINCRBY', KEYS[2], ARGV[place], times * tonumber(ARGV[place + 1]))
      place = place + 2
    end
  end
else
  chain(token)
end
if ARGV[5] ~= '' then redis.call('SET', KEYS[3], ARGV[5]) end
if #uploads > 0 then redis.call('SADD', KEYS[5], unpack(uploads)) end
if #phases > 0 then
  redis.call('HSET', KEYS[6], unpack(phases))
  redis.call('EXPIRE', KEYS[6], ttl)
end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], 'x', ARGV[3]) end
for i = 3, 5 do redis.call('EXPIRE', KEYS[i], ttl) end
local trusted = publish(ttl, token)
return {'done', trusted and 1 or 0}
"""
)

ADOPT: Final = r"""
-- Counters that were lost are set from the copies. Nobody else writes while they are lost.
-- KEYS: summary, index, batch, essays; ARGV: ttl, count of copies, (field, value)...
local entries = tonumber(redis.call('HGET', KEYS[2], 'e') or '0')
local copies = redis.call('HLEN', KEYS[4])
if entries == copies then return 1 end
if copies ~= tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
"""

SEAL: Final = r"""
-- The keys were looked through: if no other service has written since, the counts are right.
-- KEYS: summary, index; ARGV: chain, until (or '')
if redis.call('HGET', KEYS[2], 'chain') ~= ARGV[1] then return 0 end
if redis.pcall('GET', KEYS[1]) ~= redis.call('HGET', KEYS[2], 'sum') then return 0 end
redis.call('HSET', KEYS[2], 'ok', '1')
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], 'until', ARGV[2]) end
return 1
"""

SWAP: Final = r"""
-- Texts that are as they were read are replaced; the numbers of the others are returned.
-- KEYS: any; ARGV: ttl, (before, after)...
local failed = {}
for i = 1, #KEYS do
  local stored = redis.call('GET', KEYS[i])
  if stored == ARGV[i * 2] or (stored == false and ARGV[i * 2] == '\0absent') then
    redis.call('SETEX', KEYS[i], ARGV[1], ARGV[i * 2 + 1])
  else
    failed[#failed + 1] = i
  end
end
return failed
"""

TIE: Final = r"""
-- Says that batches know essays, then returns what was kept of those essays without a batch.
-- KEYS: sets of batches, then as many keys of such results; ARGV: ttl, batch...
local count = #KEYS / 2
for i = 1, count do
  redis.call('SADD', KEYS[i], ARGV[i + 1])
  redis.call('EXPIRE', KEYS[i], ARGV[1])
end
return redis.call('MGET', unpack(KEYS, count + 1))
"""

DIGESTS: Final = {
    text: sha1(text.encode(), usedforsecurity=False).hexdigest()
    for text in (WRITE, ADOPT, SEAL, SWAP, TIE)
}
