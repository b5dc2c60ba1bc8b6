interface Lister {
  zrange(key: string, from: number, to: number): Promise<string[]>;
}

/** How many members wait for this key. */
export async function waitersOf(redis: Lister, entryKey: string): Promise<number> {
  const members = await redis.zrange(`${entryKey}:audience`, 0, -1);
  return members.filter((member) => member.startsWith("w")).length;
}
