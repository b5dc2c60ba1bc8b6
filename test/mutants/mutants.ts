/** A text in a file of the tree, which is there exactly once, and what to put in its place. */
export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** One mechanism, taken out. */
export interface Mutant {
  readonly name: string;
  readonly takesOut: string;
  /** A script that is changed has its twin in the model changed alike: else only the test of the model would notice. */
  readonly edits: readonly Edit[];
  /** Test files that are to notice it where the explorer does not. */
  readonly tests?: readonly string[];
  /** Where nothing is to notice it: why. */
  readonly survives?: string;
}

/** Throws if the text is not there exactly once: the mechanism has another form by now. */
export function editText(text: string, { file, find, replace }: Edit): string {
  const parts = text.split(find);
  if (parts.length !== 2) throw new Error(`Expected exactly once in ${file}: ${find}`);
  return parts.join(replace);
}

const script = (find: string, replace: string): Edit => ({ file: "src/protocol/scripts.ts", find, replace });
const twin = (find: string, replace: string): Edit => ({ file: "test/explore/model-scripts.ts", find, replace });
const edit = (file: string, find: string, replace: string): Edit => ({ file: `src/${file}`, find, replace });

export const mutants: readonly Mutant[] = [
  // Fences and copies
  {
    name: "fence-waits-for-nobody",
    takesOut: "A fence does not wait until the holders of copies have confirmed, or their leases have ended.",
    edits: [edit("protocol/fences.ts", "if (answer.copies.length === 0) return undefined;", "return undefined;")],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "reads-in-flight-are-not-revoked",
    takesOut: "A recall drops the copies that are there, but not those whose reads are still out.",
    edits: [
      edit(
        "memory/leases.ts",
        "for (const lease of this.#byKey.get(redisKey) ?? []) lease.recall(isFence);",
        "for (const lease of this.#byKey.get(redisKey) ?? []) if (lease.onRecall) lease.recall(isFence);",
      ),
    ],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "copies-know-no-lease",
    takesOut: "A copy is served without a look at its lease.",
    edits: [
      edit("memory/copies.ts", "if (found.lease.isGood(nowMs, wallMs)) return found.content;", "return found.content;"),
    ],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "lease-without-wall-clock",
    takesOut: "A lease is measured by the monotonic clock alone, which stands still in a suspended machine.",
    edits: [
      edit(
        "memory/leases.ts",
        "return nowMs - this.#beganMs < this.#goodForMs && wallPassedMs < this.#goodForMs && wallPassedMs >= 0;",
        "return nowMs - this.#beganMs < this.#goodForMs;",
      ),
    ],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "wall-clock-may-go-back",
    takesOut: "A wall clock that was set back does not end a lease.",
    edits: [edit("memory/leases.ts", " && wallPassedMs >= 0;", ";")],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "lease-outlives-audience",
    takesOut: "A copy is served for longer than its process is in the audience.",
    edits: [edit("memory/leases.ts", "this.#goodForMs = lengthMs * 0.99 - 1;", "this.#goodForMs = lengthMs * 1.5;")],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "recall-drops-nothing",
    takesOut: "A process that is told of a fence confirms, and keeps its copy.",
    edits: [edit("memory/leases.ts", "    if (there.length > 0) this.drop(key, true);\n", "")],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "own-copy-stays",
    takesOut: "A fence does not drop the copy of its own process.",
    edits: [edit("cache-fence.ts", "        Leases.of(this.#conversation).drop(names.redisKey, true);\n", "")],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "stays-in-the-audience",
    takesOut: "A process that has dropped its copy does not leave the audience: each fence tells it again.",
    edits: [edit("memory/leases.ts", "    void this.leave(there);\n    // Lost", "    // Lost")],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "leaves-the-audience-late",
    takesOut: "ZREM comes some time after the recall, and so perhaps after the next enlist, which it undoes.",
    edits: [
      edit(
        "memory/leases.ts",
        "    void this.leave(there);\n    // Lost",
        "    this.#conversation.runtime.startTimer(50, false, () => void this.leave(there));\n    // Lost",
      ),
      edit("memory/leases.ts", "if (this.#fenced.has(key, nowMs, lengthMs) || ", "if ("),
    ],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "enlists-while-leaving",
    takesOut: "A process enters an audience again while its command that leaves it is still out.",
    edits: [edit("memory/leases.ts", " || this.#leaving.has(key)) return undefined;", ") return undefined;")],
    tests: ["test/redis/memory.test.ts", "test/redis/cluster.test.ts"],
    survives:
      "On one connection ZREM is run first, for it was sent first; and for a lease after a fence nobody enlists. It is for commands that a Cluster redirects, more than a lease late.",
  },
  {
    name: "enlists-in-two-commands",
    takesOut: "Entering the audience and reading are two commands: behind NOSCRIPT, the read comes first.",
    edits: [
      edit(
        "memory/copies.ts",
        "scripts.run(enlist, [names.entry, names.audience], args, true).catch((error: unknown) => {",
        "Promise.all([scripts.run(enlist, [names.entry, names.audience], args, true), client.hmgetBuffer(names.entry, ...fields)]).then(([, read]) => read).catch((error: unknown) => {",
      ),
    ],
    tests: ["test/unit/enlist.test.ts"],
  },
  {
    name: "fence-removes-copies",
    takesOut: "A fence removes the copies that it tells, so that a second fence does not wait for them.",
    edits: [
      script(
        '    redis.pcall("PUBLISH", "cachefence:" .. member, message)\n    answer',
        '    redis.pcall("ZREM", KEYS[3], copies[i])\n    redis.pcall("PUBLISH", "cachefence:" .. member, message)\n    answer',
      ),
      twin(
        "    else if (holder !== member) {\n",
        '    else if (holder !== member) {\n      server.execute("zrem", [audience, there[i]!]);\n',
      ),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "enlists-right-after-a-fence",
    takesOut: "A key that has just been fenced is enlisted for at once, so that each of its fences tells and waits.",
    edits: [edit("memory/leases.ts", "if (this.#fenced.has(key, nowMs, lengthMs) || ", "if (")],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "fence-keeps-the-lock",
    takesOut: "A fence leaves the lock, under which a rebuild from before it stores.",
    edits: [
      script('attempt("DEL", KEYS[1])\ntell(KEYS[3], waiters', "tell(KEYS[3], waiters"),
      twin(
        'server.execute("del", [lock]);\n  tell(server, audience, waiters(server, audience), about("freed", entry));\n  if (failure',
        'tell(server, audience, waiters(server, audience), about("freed", entry));\n  if (failure',
      ),
    ],
    tests: ["test/redis/steps.test.ts"],
  },

  // Messages
  {
    name: "messages-as-of-the-last-claim",
    takesOut:
      "A value inside a message is good for whoever asked before the last claim, whatever lock that claim found.",
    edits: [
      edit(
        "rebuild/flight.ts",
        "if (told === undefined || this.#sighting === undefined || !isOfLine(this.#sighting.lock, told.token)) return false;",
        "if (told === undefined || this.#sighting === undefined) return false;",
      ),
    ],
    tests: ["test/redis/stampede.test.ts", "test/faults/faults-network.test.ts"],
  },
  {
    name: "waiters-are-not-swept",
    takesOut: "A store tells the waiters, and leaves them in the audience.",
    edits: [
      script('    redis.pcall("ZREM", audience, member)\n', ""),
      twin('    server.execute("zrem", [audience, member]);\n', ""),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "copies-are-not-swept",
    takesOut: "A fence leaves the copies in the audience whose time is over.",
    edits: [
      script('    redis.pcall("ZREM", KEYS[3], copies[i])\n  elseif', "  elseif"),
      twin('if (left <= 0) server.execute("zrem", [audience, there[i]!]);', "if (left <= 0) continue;"),
    ],
    tests: ["test/redis/steps.test.ts"],
  },

  // Locks and tokens
  {
    name: "free-asks-for-no-token",
    takesOut: "A lock is freed whoever holds it.",
    edits: [
      script('if redis.call("GET", KEYS[1]) ~= ARGV[1] then return "refused" end\n', ""),
      twin('  if (get(server, lock) !== token) return "refused";\n', ""),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "renew-asks-for-no-token",
    takesOut: "A lock is renewed whoever holds it.",
    edits: [
      script("if held == ARGV[1] or held == ARGV[5] then\n", "if held then\n"),
      twin("if (held === token || held === grown) {", "if (held !== null) {"),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "late-mailboxes-are-not-told-of",
    takesOut: "A lock that was got before the mailbox was live says so once it is: else nobody sees its holder die.",
    edits: [edit("rebuild/flight.ts", "    if (message === undefined) this.#rebuild?.lock?.showLife();\n", "")],
    tests: ["test/faults/faults-network.test.ts"],
  },
  {
    name: "grown-locks-are-not-freed",
    takesOut: "What a token has grown to is freed too.",
    edits: [edit("protocol/rebuild-lock.ts", 'outcome === "done" || this.#grown === this.token', "true")],
    tests: ["test/faults/faults-network.test.ts"],
  },
  {
    name: "store-asks-for-no-token",
    takesOut: "Whoever has recomputed may store.",
    edits: [
      script('if type(held) ~= "string" or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return "refused" end\n', ""),
      twin('  if (get(server, lock)?.startsWith(token!) !== true) return "refused";\n', ""),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "store-asks-for-the-whole-token",
    takesOut: "A slow holder whose lock was taken over may not be first to store.",
    edits: [
      script(
        'if type(held) ~= "string" or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return "refused" end\n',
        'if held ~= ARGV[1] then return "refused" end\n',
      ),
      twin("get(server, lock)?.startsWith(token!) !== true", "get(server, lock) !== token"),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "takeover-asks-for-no-token",
    takesOut: "Whoever has lost patience takes over whatever lock is there by now.",
    edits: [
      script("if not isPause and (held == ARGV[8] or", 'if not isPause and (ARGV[8] ~= "" or'),
      twin("if (!isPause && (held === outwaited ||", 'if (!isPause && (outwaited !== "" ||'),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "one-nonce-for-all-claims",
    takesOut: "A member's claims and takeovers all have the same part: one that comes late brings back an old token.",
    edits: [edit("protocol/rebuild-lock.ts", "mailbox.isLive, runtime.nonce());", 'mailbox.isLive, "000000000000");')],
    tests: ["test/redis/steps.test.ts", "test/faults/faults-network.test.ts"],
  },
  {
    name: "silence-is-judged-once",
    takesOut: "A holder whose mailbox is not there at one look is taken for dead.",
    edits: [script("(isSilent and held == ARGV[9])", "isSilent"), twin("(isSilent && held === silent)", "isSilent")],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "second-look-comes-at-once",
    takesOut: "The second look at a silent holder leaves its mailbox no time to come back.",
    edits: [edit("rebuild/flight.ts", "const SILENCE_MS = 60;", "const SILENCE_MS = -1;")],
    tests: ["test/fleet/process-crashes.test.ts"],
  },
  {
    name: "tokens-always-say-live",
    takesOut: "A token says that the mailbox was live, though it was not: nobody can be heard in it.",
    edits: [edit("protocol/rebuild-lock.ts", "mailbox.showsDeath && mailbox.isLive, ", "mailbox.showsDeath, ")],
    tests: ["test/faults/faults-acl.test.ts"],
  },
  {
    name: "first-rebuild-waits-for-no-mailbox",
    takesOut: "The first rebuild of a process begins before its mailbox is open, so that nobody sees it die at first.",
    edits: [
      edit(
        "rebuild/flight.ts",
        "if (!mailbox.isLive && this.#tools.mayListen() && this.#isRedisThere) await mailbox.ready();",
        "if (!mailbox.isLive && this.#tools.mayListen() && this.#isRedisThere) void mailbox.ready();",
      ),
    ],
    // Its lock says so once there is one, which is a command more.
    tests: ["test/redis/stampede.test.ts"],
  },
  {
    name: "death-is-not-seen",
    takesOut: "A dead holder is noticed by the end of its lease alone.",
    edits: [edit("protocol/scripted.ts", 'this.#member.showsDeath ? "1" : "0"', '"0"')],
    tests: ["test/fleet/process-crashes.test.ts"],
  },
  {
    name: "claim-finds-nothing",
    takesOut: "A claim takes the lock though a valid entry is there by now.",
    edits: [
      script('if isThere and ARGV[13] == "0" then', "if false then"),
      twin('if (fields[3] !== null && isBlind === "0") {', "if (Boolean(0)) {"),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "claim-finds-what-is-at-hand",
    takesOut: "The claim of a refresh finds the very entry that is to be refreshed.",
    edits: [
      script("and tags == ARGV[7] and not isAtHand then", "and tags == ARGV[7] then"),
      twin("itsTags === tags && !isAtHand)", "itsTags === tags)"),
    ],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "late-claims-are-not-freed",
    takesOut: "A claim that was given up, and reaches Redis late, leaves its lock.",
    edits: [edit("protocol/rebuild-lock.ts", "      this.#undo(names, request, sent);\n", "")],
    tests: ["test/faults/faults-network.test.ts"],
  },
  {
    name: "leases-are-not-renewed",
    takesOut: "A slow holder loses its lock when the first lease ends.",
    edits: [edit("protocol/rebuild-lock.ts", "    schedule();\n    this.showLife();\n", "    this.showLife();\n")],
    tests: ["test/redis/serving.test.ts"],
  },
  {
    name: "deliveries-are-tried-once",
    takesOut: "A store or a release that Redis refuses is not tried again.",
    edits: [edit("link/redis-link.ts", "    this.#deliveries.follow(sent, again, untilMs);\n", "")],
    tests: ["test/faults/refused-writes.test.ts"],
  },
  {
    name: "noscript-is-an-error",
    takesOut: "A script that the server has forgotten is not sent again.",
    edits: [edit("protocol/scripted.ts", 'if (kindOf(error) !== "no-script") throw error;', "throw error;")],
    tests: ["test/redis/steps.test.ts"],
  },
  {
    name: "failed-refreshes-leave-no-pause",
    takesOut: "After a failed refresh, the next caller tries again at once.",
    edits: [
      edit(
        "rebuild/flight.ts",
        "const pauseMs = isServed && hasBegun ? owner.retryAfterMs : 0;",
        "const pauseMs = isServed ? 0 : 0;",
      ),
    ],
    tests: ["test/redis/serving.test.ts"],
  },
  {
    name: "pause-holds-up-fills",
    takesOut: "Whoever has nothing to serve waits for the end of a pause.",
    edits: [
      script('or (isPause and ARGV[4] == "fill") then', "then"),
      twin('(isPause && purpose === "fill")', "Boolean(0)"),
    ],
    tests: ["test/redis/steps.test.ts"],
  },

  // Tags
  {
    name: "states-know-no-clock",
    takesOut: "The time in a tag's new state: a command sent again after a fence makes the state from before it.",
    edits: [edit("protocol/scripts.ts", 'state = ARGV[1] .. "-" .. time[1] .. "-" .. time[2]', "state = ARGV[1]")],
    tests: ["test/redis/tags.test.ts"],
  },
  {
    name: "tags-are-taken-at-the-store",
    takesOut: "What the tags stand at is taken when the recompute is done, and not before it.",
    edits: [
      edit(
        "rebuild/flight.ts",
        "const made = await owner.recompute();",
        "const made = await owner.recompute(); Object.assign(owner, { tags: await (owner as any).tagsNow().catch(() => owner.tags) });",
      ),
      edit(
        "cache-fence.ts",
        "      servableUntilSeconds: found?.",
        "      ...{ tagsNow: () => this.#looks.tagStates(options.tags) },\n      servableUntilSeconds: found?.",
      ),
    ],
    tests: ["test/redis/tags.test.ts"],
  },
  {
    name: "tags-are-not-compared-in-redis",
    takesOut: "An entry that is read is served whatever its tags stand at.",
    edits: [edit("look/looks.ts", " || stored.tags !== looker.tags) return NOTHING;", ") return NOTHING;")],
    tests: ["test/redis/tags.test.ts"],
  },
  {
    name: "tags-are-not-compared-in-memory",
    takesOut: "A copy is served whatever its tags stand at.",
    edits: [edit("look/looks.ts", "    if (entry.tags !== tags) return undefined;\n", "")],
    tests: ["test/redis/tags.test.ts", "test/redis/memory.test.ts"],
  },
  {
    name: "tags-are-not-compared-in-claims",
    takesOut: "A claim finds an entry whatever its tags stand at.",
    edits: [script("and tags == ARGV[7] and", "and"), twin("isValid && itsTags === tags && ", "isValid && ")],
    tests: ["test/redis/steps.test.ts", "test/redis/tags.test.ts"],
  },
  {
    name: "tags-are-not-compared-in-messages",
    takesOut: "An entry from elsewhere, in a message or found, is used whatever its tags stand at.",
    edits: [
      edit("rebuild/flight.ts", "if (entry.tags !== tags || (atHand", "if ((atHand"),
      edit("rebuild/flight.ts", "this.#landAll({ entry, tags: entry.tags,", "this.#landAll({ entry, tags,"),
    ],
    tests: ["test/redis/tags.test.ts"],
  },
  {
    name: "tags-are-not-compared-in-flights",
    takesOut: "A flight's outcome is used by all who joined it, whatever their tags stand at.",
    edits: [
      edit(
        "rebuild/outcome.ts",
        "return call.began <= outcome.asOf && call.tags !== undefined && call.tags === outcome.tags;",
        "return call.began <= outcome.asOf;",
      ),
    ],
    tests: ["test/redis/tags.test.ts"],
  },

  // Flights
  {
    name: "no-boarding-moment",
    takesOut: "A flight's outcome stands for all aboard, those too who came after a fence.",
    edits: [edit("rebuild/outcome.ts", "return call.began <= outcome.asOf && call.tags", "return call.tags")],
    tests: ["test/redis/passengers.test.ts"],
  },
  {
    name: "refused-stores-stand",
    takesOut: "The outcome of a rebuild whose store was refused stands for those who joined it meanwhile.",
    edits: [
      edit(
        "rebuild/flight.ts",
        "this.#landAll({ ...common, entry, asOf: isFenceKept ? asOf : startedAt });",
        "this.#landAll({ ...common, entry, asOf });",
      ),
    ],
    tests: ["test/redis/passengers.test.ts"],
  },
  {
    name: "rebuilds-for-nobody",
    takesOut: "A caller that leaves before the rebuild has begun stays aboard.",
    edits: [
      edit(
        "rebuild/flight.ts",
        "        this.#aboard.delete(passenger);\n        resolve(undefined);\n",
        "        resolve(undefined);\n",
      ),
    ],
    tests: ["test/redis/passengers.test.ts"],
  },
  {
    name: "refresh-stays-a-refresh",
    takesOut: "A flight that began as a refresh stays one, though somebody with nothing to serve has boarded it.",
    edits: [
      edit(
        "rebuild/flight.ts",
        "for (const { isServed } of this.#aboard.keys()) if (!isServed) return false;\n    return true;",
        "for (const { isServed } of this.#aboard.keys()) return isServed;\n    return true;",
      ),
    ],
    tests: ["test/redis/passengers.test.ts"],
  },
  {
    name: "patience-begins-anew",
    takesOut: "A call that boards another flight has its patience back.",
    edits: [edit("cache-fence.ts", "givesUpMs(call.askedMs,", "givesUpMs(this.#runtime.monotonicMs(),")],
    tests: ["test/redis/passengers.test.ts"],
  },
  {
    name: "lists-begin-for-nobody",
    takesOut: "A list whose caller has left before its recompute was called asks for nobody.",
    edits: [edit("call/batch.ts", "if (this.#source.signal?.aborted === true)", "if (asked.length === 0)")],
    tests: ["test/redis/lists.test.ts"],
  },
  {
    name: "a-full-server-keeps-locks",
    takesOut: "Where a pause cannot be written, the lock is freed without one.",
    edits: [
      edit(
        "protocol/rebuild-lock.ts",
        'if (pauseMs === 0 || kindOf(error) !== "passing") throw error;',
        "throw error;",
      ),
    ],
    tests: ["test/faults/faults-server.test.ts"],
  },
  {
    name: "copies-keep-their-cache",
    takesOut: "What all caches over a client share holds none of them.",
    edits: [
      edit(
        "cache-fence.ts",
        'onDropped: (key) => reporter.report("cachefence:copy-dropped", { key }),',
        'onDropped: (key) => this.#reporter.report("cachefence:copy-dropped", { key }),',
      ),
    ],
    tests: ["test/redis/memory.test.ts"],
  },
  {
    name: "mailboxes-forget-where-they-opened",
    takesOut: "A mailbox knows from its opening on at which server the client was.",
    edits: [edit("protocol/mailbox.ts", "    this.#peer = peerOf(this.#client) ?? this.#peer;\n", "")],
    tests: ["test/faults/own-connections.test.ts"],
  },
  {
    name: "crowds-sit-with-the-first",
    takesOut: "Of the callers of one turn, those that wait for the first can give it up.",
    edits: [
      edit(
        "rebuild/flight.ts",
        "if (passenger === owner) return Infinity;",
        "if (passenger === owner || passenger.recompute === undefined) return Infinity;",
      ),
    ],
    tests: ["test/redis/passengers.test.ts"],
  },
  {
    name: "crowds-take-latecomers",
    takesOut: "Nobody joins the callers of a turn when these have looked.",
    edits: [edit("cache-fence.ts", "if (first !== undefined && !first.hasLooked) {", "if (first !== undefined) {")],
    tests: ["test/redis/passengers.test.ts"],
  },
  {
    name: "due-copies-forget-their-tags",
    takesOut: "What refreshes a copy is stored with the tags that the copy has.",
    edits: [edit("cache-fence.ts", "      call.tags = due.entry.tags;\n      call.look", "      call.look")],
    tests: ["test/redis/tags.test.ts", "test/redis/memory.test.ts"],
  },
  {
    name: "crowds-draw-as-one",
    takesOut: "Each of the callers of one turn has its own draw.",
    edits: [edit("cache-fence.ts", "isDue = found !== undefined && this.#isDue(found, options);", "")],
    tests: ["test/redis/cache-fence.test.ts"],
  },
  {
    name: "crowds-began-with-their-first",
    takesOut: "A rebuild that a crowd waits for stands for the last of it.",
    edits: [edit("cache-fence.ts", "crowd.call.began = ++this.#moment;", "this.#moment++;")],
    tests: ["test/redis/passengers.test.ts"],
  },
  {
    name: "reads-are-shared-for-longer",
    takesOut: "A read is shared until its reply comes, and not only by the callers of one turn.",
    edits: [edit("link/ticks.ts", "    this.#current?.reads.clear();\n    this.#current = undefined;\n  };", "  };")],
    tests: ["test/redis/passengers.test.ts"],
  },

  // Clocks
  {
    name: "expiry-by-the-hosts-clock",
    takesOut: "Entries are judged and written by each host's own clock.",
    edits: [
      edit(
        "link/server-clock.ts",
        "    if (!isConsistent) this.#offsetMs = serverMs - (sentMs + answeredMs) / 2;\n",
        "",
      ),
    ],
    tests: ["test/unit/server-clock.test.ts"],
  },
];
