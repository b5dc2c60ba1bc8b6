/**
 * Replaces what stands between `<!-- name -->` and `<!-- /name -->`. The prose around the slots is written by hand, the
 * numbers in them never are.
 */
export function fillSlots(text: string, contents: ReadonlyMap<string, string>): string {
  const unfilled = new Set(contents.keys());
  const filled = text.replace(
    /<!-- (?<name>[a-z-]+) -->\n[\s\S]*?<!-- \/\k<name> -->/g,
    (slot: string, name: string): string => {
      const content = contents.get(name);
      if (content === undefined) throw new Error(`Nothing belongs into the slot ${name}`);
      unfilled.delete(name);
      return `<!-- ${name} -->\n\n${content}\n\n<!-- /${name} -->`;
    },
  );
  if (unfilled.size > 0) throw new Error(`There is no slot for ${[...unfilled].join(", ")}`);
  return filled;
}
