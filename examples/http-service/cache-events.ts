import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { CacheFenceEvents } from "cachefence";

/** Calls back for each event of that name, of any CacheFence in this process, until the returned function is called. */
export function onCacheEvent<Name extends keyof CacheFenceEvents>(
  name: Name,
  listener: (payload: CacheFenceEvents[Name]) => void,
): () => void {
  const onMessage = (payload: unknown) => listener(payload as CacheFenceEvents[Name]);
  subscribe(name, onMessage);
  return () => void unsubscribe(name, onMessage);
}
