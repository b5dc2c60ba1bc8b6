import { createHash } from "node:crypto";
import { LONGEST_LEASE_MS } from "./steps.js";
import { LONGEST_GROWING, PAUSE } from "./token.js";

/** A script as it is sent: by its hash, or whole where the server does not know it yet. */
export interface Script {
  readonly text: string;
  readonly sha1: string;
}

function define(text: string): Script {
  return { text, sha1: createHash("sha1").update(text).digest("hex") };
}

/** A hash is an entry if it has this field; and a tag's state if it has the other. */
const ENTRY_MARK = "v";
const STATE_MARK = "state";

/** Values up to this size travel inside the message that wakes a waiter, and all messages of one store hold at most a megabyte. */
export const LARGEST_TOLD_BYTES = 16_384;
const MOST_TOLD_BYTES = 1_048_576;

// Only strings and arrays are returned, and numbers are written with %.0f: ioredis-mock knows no more. A missing field is
// no nil there, and bytes are no string, so the type is asked. TIME may be denied: then nothing is known to be over.
const CLOCK = `
local function now()
  local time = redis.pcall("TIME")
  if time.err then return nil end
  return math.floor(time[1] * 1000 + time[2] / 1000)
end
local function text(number)
  return string.format("%.0f", number)
end
`;

// The audience lives as long as its last member may.
const JOIN = `
local function join(audience, member, ms)
  if not now() then return end
  redis.pcall("ZADD", audience, text(now() + ms), member)
  local left = redis.pcall("PTTL", audience)
  if type(left) == "number" and left < ms then redis.pcall("PEXPIRE", audience, text(ms)) end
end
`;

// PUBLISH through pcall: a denied channel costs a wake-up, and no more.
const TELL = `
local function waiters(audience)
  local found = {}
  local members = redis.pcall("ZRANGE", audience, 0, -1)
  if members.err then return found, string.find(members.err, "WRONGTYPE") end
  for _, member in ipairs(members) do
    if string.sub(member, 1, 1) == "w" then found[#found + 1] = member end
  end
  return found
end
local function tell(audience, members, message)
  for _, member in ipairs(members) do
    redis.pcall("ZREM", audience, member)
    redis.pcall("PUBLISH", "cachefence:" .. string.sub(member, 2), message)
  end
end
local function about(kind, key, words)
  return kind .. " " .. #key .. words .. "\\n" .. key
end
`;

// The first error is what came of it. What must be done whatever else has failed is attempted.
const WRITE = `
local failure
local function attempt(...)
  local reply = redis.pcall(...)
  if type(reply) == "table" and reply.err then failure = failure or reply.err end
end
local function write(...)
  if not failure then attempt(...) end
end
`;

const IS_FOREIGN = `
local function isForeign(entry, mark)
  return redis.call("HEXISTS", entry, mark) == 0 and redis.call("EXISTS", entry) == 1
end
`;

/**
 * Looks, and takes what may be taken. Nothing is written before all is checked: scripts do not roll back.
 *
 * Silence is judged twice: whoever sends again the lock that it found silent at its last look has let some time pass, in
 * which a mailbox that was only reconnecting is back. A pause is free for whoever has nothing to serve.
 */
export const claim = define(`
-- KEYS[1] lock; KEYS[2] entry; KEYS[3] audience
-- ARGV[1] token for a free lock; ARGV[2] its part; ARGV[3] lease, ms
-- ARGV[4] "fill" or "refresh"; ARGV[5], ARGV[6] delta and expiry of the entry at hand, or ""; ARGV[7] tags
-- ARGV[8] the lock whose patience is over, or ""; ARGV[9] the lock that was silent at the last look, or ""
-- ARGV[10] waiter for the audience; ARGV[11] how long it waits, ms, "0": it does not; ARGV[12] "1" if silence can be seen
-- ARGV[13] "1" if what is there has been found before, and cannot be read
-- returns {"found"}, {"foreign"}; {"mine", lock, "free" | "patience" | "silence"};
--   or {"held", lock, its lease left in ms, "holder" | "silent" | "pause"}
${CLOCK}${JOIN}
local isThere = redis.call("HEXISTS", KEYS[2], "${ENTRY_MARK}") == 1
if isThere and ARGV[13] == "0" then
  local fields = redis.call("HMGET", KEYS[2], "delta", "expiry", "tags")
  local delta, expiry = tonumber(fields[1]), tonumber(fields[2])
  local tags = type(fields[3]) == "string" and fields[3] or ""
  local isAtHand = delta == tonumber(ARGV[5]) and expiry == tonumber(ARGV[6])
  local isReadable = delta and expiry and delta >= 0 and delta < math.huge and expiry < math.huge
  if isReadable and expiry * 1000 > (now() or math.huge) and tags == ARGV[7] and not isAtHand then return {"found"} end
end
local held = redis.call("GET", KEYS[1])
local isHeld = type(held) == "string"
-- Of somebody else's lock the client reads only text, and names it so when its patience is over.
if isHeld then held = string.gsub(held, "[\\128-\\255]", "?") end
if isHeld and string.sub(held, -#ARGV[2] - 1) == ":" .. ARGV[2] then
  return {"mine", held, held == ARGV[1] and "free" or "patience"}
end
local left = isHeld and redis.call("PTTL", KEYS[1])
if left == -1 then return {"foreign"} end
local isPause = isHeld and string.sub(held, -2) == "${PAUSE}"
if not isHeld or (isPause and ARGV[4] == "fill") then
  if isPause then redis.call("DEL", KEYS[1]) end
  redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[3])
  return {"mine", ARGV[1], "free"}
end
local isSilent = false
local member = string.match(held, ":L(%x+)%-%x+$")
if member and ARGV[12] == "1" then
  local heard = redis.pcall("PUBSUB", "NUMSUB", "cachefence:" .. member)
  isSilent = type(heard) == "table" and not heard.err and tonumber(heard[2]) == 0
end
if not isPause and (held == ARGV[8] or (isSilent and held == ARGV[9])) then
  local kept = held
  if #held > ${String(LONGEST_GROWING)} then kept = string.match(held, "^(.*):[^:]*$") or "" end
  local token = kept .. ":" .. ARGV[2]
  redis.call("SET", KEYS[1], token, "PX", ARGV[3])
  return {"mine", token, held == ARGV[8] and "patience" or "silence"}
end
if ARGV[4] == "fill" and ARGV[11] ~= "0" then join(KEYS[3], ARGV[10], tonumber(ARGV[11])) end
return {"held", held, text(left), isPause and "pause" or (isSilent and "silent" or "holder")}
`);

/**
 * Stores the entry and frees the lock, if that begins with the storer's token. The entry comes before the lock, because
 * Redis asks for memory only before a script's first write. The writes go through pcall, so that one that fails still
 * frees the lock and wakes its waiters.
 */
export const store = define(`
-- KEYS[1] lock; KEYS[2] entry; KEYS[3] audience
-- ARGV[1] token; ARGV[2] value; ARGV[3] delta; ARGV[4] expiry; ARGV[5] tags; ARGV[6] life of the key, ms
-- ARGV[7] "1" if messages may hold bytes
-- returns "done", "locked" (stored, but the lock may not be freed), "refused", "foreign", or the error of the write that failed
${TELL}${IS_FOREIGN}${WRITE}
local held = redis.call("GET", KEYS[1])
if type(held) ~= "string" or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return "refused" end
if isForeign(KEYS[2], "${ENTRY_MARK}") then return "foreign" end
local told, isForeignAudience = waiters(KEYS[3])
if isForeignAudience then return "foreign" end
if ARGV[5] == "" then
  write("HSET", KEYS[2], "${ENTRY_MARK}", ARGV[2], "delta", ARGV[3], "expiry", ARGV[4])
  write("HDEL", KEYS[2], "tags")
else
  write("HSET", KEYS[2], "${ENTRY_MARK}", ARGV[2], "delta", ARGV[3], "expiry", ARGV[4], "tags", ARGV[5])
end
write("PEXPIRE", KEYS[2], ARGV[6])
local freed = redis.pcall("DEL", KEYS[1])
local message = about("stored", KEYS[2], "")
local size = #ARGV[2]
if ARGV[7] == "1" and size <= ${String(LARGEST_TOLD_BYTES)} and size * #told <= ${String(MOST_TOLD_BYTES)} then
  message = about("stored", KEYS[2], " " .. ARGV[1] .. " " .. ARGV[3] .. " " .. ARGV[4] .. " " .. #ARGV[5])
    .. ARGV[5] .. ARGV[2]
end
if failure then message = about("freed", KEYS[2], "") end
tell(KEYS[3], told, message)
if failure then return failure end
return type(freed) == "table" and freed.err and "locked" or "done"
`);

/** Frees the lock, or leaves a pause in its place, if it is still exactly this holder's. */
export const free = define(`
-- KEYS[1] lock; KEYS[2] entry, for its name; KEYS[3] audience
-- ARGV[1] token; ARGV[2] length of the pause in ms, "0" for none
-- returns "done" or "refused"
${TELL}
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return "refused" end
if ARGV[2] == "0" then
  redis.call("DEL", KEYS[1])
else
  redis.call("SET", KEYS[1], ARGV[1] .. "${PAUSE}", "PX", ARGV[2])
end
tell(KEYS[3], waiters(KEYS[3]), about("freed", KEYS[2], ""))
return "done"
`);

/**
 * Sets the lease anew, and puts the token that has grown into the lock. Memory is asked for before a script's first write
 * only, so on a full server the lease comes first. Who has lost the lock becomes a waiter, so that it hears of the next store.
 */
export const renew = define(`
-- KEYS[1] lock; KEYS[2] audience
-- ARGV[1] token; ARGV[2] lease, ms; ARGV[3] waiter for the audience; ARGV[4] how long it waits, ms
-- ARGV[5] the token as it is from now on: the same, or what it has grown to
-- returns {"done"}, {"taken", lock} or {"lost"}
${CLOCK}${JOIN}
local held = redis.call("GET", KEYS[1])
if held == ARGV[1] or held == ARGV[5] then
  redis.call("PEXPIRE", KEYS[1], ARGV[2])
  if held ~= ARGV[5] then redis.call("SET", KEYS[1], ARGV[5], "PX", ARGV[2]) end
  return {"done"}
end
join(KEYS[2], ARGV[3], tonumber(ARGV[4]))
if type(held) ~= "string" or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return {"lost"} end
return {"taken", held}
`);

/**
 * A fence: removes the entry, or overwrites it, and the lock whoever holds it. Waiters are told to claim, and removed.
 * Copies are told, and left in the audience until they have confirmed: so a second fence sees and awaits them too. That of
 * the fencing member is left to its own process, which drops it when this is answered.
 */
export const fence = define(`
-- KEYS[1] lock; KEYS[2] entry; KEYS[3] audience
-- ARGV[1] member that fences; ARGV[2] name of the fence
-- ARGV[3] the field by which the key is known to be ours
-- ARGV[4..8] of a set: value, delta, expiry, tags, life of the key in ms
-- returns {"foreign"}; {"failed", error}; or {"done", member of a copy, its lease left in ms, member, ...}
${CLOCK}${TELL}${IS_FOREIGN}${WRITE}
local held = redis.call("GET", KEYS[1])
if type(held) == "string" and redis.call("PTTL", KEYS[1]) == -1 then return {"foreign"} end
if isForeign(KEYS[2], ARGV[3]) then return {"foreign"} end
local copies = redis.pcall("ZRANGE", KEYS[3], 0, -1, "WITHSCORES")
if copies.err and string.find(copies.err, "WRONGTYPE") then return {"foreign"} end
if ARGV[4] then
  write("HSET", KEYS[2], "${ENTRY_MARK}", ARGV[4], "delta", ARGV[5], "expiry", ARGV[6], "tags", ARGV[7])
  if ARGV[7] == "" then write("HDEL", KEYS[2], "tags") end
  write("PEXPIRE", KEYS[2], ARGV[8])
else
  write("DEL", KEYS[2])
end
attempt("DEL", KEYS[1])
tell(KEYS[3], waiters(KEYS[3]), about("freed", KEYS[2], ""))
-- Whoever has a copy is not known: nobody can be told, nor waited for.
failure = failure or copies.err
if failure then return {"failed", failure} end
local answer = {"done"}
local message = about("fenced", KEYS[2], " " .. ARGV[2] .. " " .. ARGV[1])
local at = now()
for i = 1, #copies, 2 do
  local member, lease = string.match(copies[i], "^c(%x+):(%d+)$")
  local left = math.min(tonumber(lease or 0), ${String(LONGEST_LEASE_MS)})
  if at then left = math.min(tonumber(copies[i + 1]) - at, left) end
  if left <= 0 then
    redis.pcall("ZREM", KEYS[3], copies[i])
  elseif member ~= ARGV[1] then
    redis.pcall("PUBLISH", "cachefence:" .. member, message)
    answer[#answer + 1] = member
    answer[#answer + 1] = text(left)
  end
end
return answer
`);

/** Reads for a copy: in the audience first, so that every fence from here on knows of it. */
export const enlist = define(`
-- KEYS[1] entry; KEYS[2] audience
-- ARGV[1] copy for the audience; ARGV[2] its lease, ms; ARGV[3..] the fields
-- returns the fields
${CLOCK}
redis.call("ZADD", KEYS[2], text(now() + tonumber(ARGV[2])), ARGV[1])
if redis.call("PTTL", KEYS[2]) < tonumber(ARGV[2]) then redis.call("PEXPIRE", KEYS[2], ARGV[2]) end
return redis.call("HMGET", KEYS[1], unpack(ARGV, 3))
`);

/**
 * A tag's state: made if it is missing, kept for long enough if it is there. The clock is part of a new one, so that a
 * command that is sent again after a fence makes another one, and no entry from before it is valid again.
 */
export const tag = define(`
-- KEYS[1] state
-- ARGV[1] nonce for a new state; ARGV[2] how long it is kept at least, ms
-- ARGV[3] the state that is to be kept, or "" to make one
-- returns the state, "" if there is none to keep, or "foreign"
local state = redis.call("HGET", KEYS[1], "${STATE_MARK}")
if type(state) ~= "string" then
  if ARGV[3] ~= "" then return "" end
  if redis.call("EXISTS", KEYS[1]) == 1 then return "foreign" end
  local time = redis.call("TIME")
  state = ARGV[1] .. "-" .. time[1] .. "-" .. time[2]
  redis.call("HSET", KEYS[1], "${STATE_MARK}", state)
elseif ARGV[3] ~= "" and state ~= ARGV[3] then
  return state
end
if redis.call("PTTL", KEYS[1]) < tonumber(ARGV[2]) then redis.call("PEXPIRE", KEYS[1], ARGV[2]) end
return state
`);
