/** Events in the order of their moments; those of one moment in the order in which they were added. */
export class EventQueue<Event> {
  readonly #heap: { atSeconds: number; order: number; event: Event }[] = [];
  #added = 0;

  add(atSeconds: number, event: Event): void {
    const heap = this.#heap;
    const added = { atSeconds, order: this.#added++, event };
    let place = heap.length;
    heap.push(added);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !comesBefore(added, above)) break;
      heap[place] = above;
      place = parent;
    }
    heap[place] = added;
  }

  /** Removes the earliest event. */
  next(): { readonly atSeconds: number; readonly event: Event } | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      let below = heap[child];
      if (below === undefined) break;
      const sibling = heap[child + 1];
      if (sibling !== undefined && comesBefore(sibling, below)) {
        below = sibling;
        child++;
      }
      if (comesBefore(last, below)) break;
      heap[place] = below;
      place = child;
    }
    heap[place] = last;
    return first;
  }
}

interface Moment {
  readonly atSeconds: number;
  readonly order: number;
}

function comesBefore(one: Moment, other: Moment): boolean {
  return one.atSeconds < other.atSeconds || (one.atSeconds === other.atSeconds && one.order < other.order);
}
