import type { KeyNames } from "../protocol/key-names.js";
import type { FlightTools, Passenger, Silence } from "./flight.js";
import { Flight } from "./flight.js";
import type { Outcome } from "./outcome.js";
import { joinableMs } from "./patience.js";

// What is forgotten of a pause or a silence costs a claim.
const MOST_NOTES = 10_000;
// A silence that is older says nothing: a mailbox that is reconnecting now may have been so then.
const LONGEST_SILENCE_MS = 5000;

/** The flights of one cache: at most one a key that calls may board. */
export class Flights {
  readonly #tools: FlightTools;
  // Key -> the flight that a call may board. Added in the turn in which it begins; removed by itself, when it has landed, lost
  // its lock, or outlasted the patience of a passenger.
  readonly #byKey = new Map<string, Flight>();
  // Key -> when its pause ends, by the monotonic clock. Removed when it is over, at the latest when there are many.
  readonly #pauses = new Map<string, number>();
  // Key -> the holder that its last refresh has found silent. Handed to the next flight.
  readonly #silences = new Map<string, Silence>();
  // Everything under way, closed or not, and its end.
  readonly #underWay = new Map<Flight, Promise<void>>();

  constructor(tools: FlightTools) {
    this.#tools = tools;
  }

  has(key: string): boolean {
    return this.#byKey.has(key);
  }

  /** True while the fleet rests from a refresh of the key that has failed: another would find the pause, and nothing else. */
  isPaused(key: string): boolean {
    const untilMs = this.#pauses.get(key);
    if (untilMs === undefined) return false;
    if (this.#tools.runtime.monotonicMs() < untilMs) return true;
    this.#pauses.delete(key);
    return false;
  }

  /** A newer entry is known, or the key was fenced: there is no pause any more. */
  resume(key: string): void {
    this.#pauses.delete(key);
  }

  /** The key's flight, made if there is none. One who has given up another rebuild of this process joins only a young one. */
  board(names: KeyNames, passenger: Passenger, onBoarded?: (leave: () => void) => void): Promise<Outcome | undefined> {
    const { key } = names;
    const there = this.#byKey.get(key);
    const { runtime, waitForLockMs } = this.#tools;
    const hasGivenUp = runtime.monotonicMs() >= passenger.givesUpMs;
    const isTooOld = hasGivenUp && there !== undefined && there.rebuildingMs > joinableMs(waitForLockMs);
    if (there !== undefined && !isTooOld) return there.board(passenger, onBoarded);
    const noted = this.#silences.get(key);
    this.#silences.delete(key);
    const isRecent = noted !== undefined && runtime.monotonicMs() - noted.sinceMs < LONGEST_SILENCE_MS;
    const silence = isRecent ? noted : undefined;
    const flight = new Flight(this.#tools, names, silence, {
      closed: () => {
        if (this.#byKey.get(key) === flight) this.#byKey.delete(key);
      },
      paused: (untilMs) => {
        note(this.#pauses, key, untilMs);
      },
      silent: (found) => {
        note(this.#silences, key, found);
      },
    });
    this.#byKey.set(key, flight);
    const outcome = flight.board(passenger, onBoarded);
    const end = flight.fly();
    this.#underWay.set(flight, end);
    void end.then(() => this.#underWay.delete(flight));
    return outcome;
  }

  /** Resolves when nothing is under way, what begins meanwhile included. */
  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay.values());
  }

  /** The cache is closed: they look instead of listening. */
  async stopListening(): Promise<void> {
    await Promise.all([...this.#underWay.keys()].map((flight) => flight.stopListening()));
  }
}

function note<T>(notes: Map<string, T>, key: string, value: T): void {
  if (notes.size >= MOST_NOTES) notes.clear();
  notes.set(key, value);
}
