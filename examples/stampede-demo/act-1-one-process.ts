import { herdCells, herdHeadings, type HerdRow } from "./herd-table.js";
import { prepareHerd } from "./measured-herd.js";
import { formatCount } from "./output.js";
import type { Stage } from "./stage.js";
import type { StrategyName } from "./strategies.js";

export async function actOne({ server, options, keys, cleanup, output }: Stage): Promise<void> {
  const { callers, latencyMs } = options;
  output.line("Act 1: one process");
  output.paragraph(
    `${formatCount(callers)} callers of one process ask at once for one value that is not in the cache, and the ` +
      `database takes ${latencyMs} ms per query.`,
  );

  const measure = async (label: string, strategy: StrategyName): Promise<HerdRow> => {
    output.progress(`${label}: ${formatCount(callers)} callers`);
    let queries = 0;
    const plan = {
      strategy,
      key: keys.name(`act-1:${strategy}`),
      warmUpKey: keys.name(`act-1:warm-up:${strategy}`),
      callers,
      latencyMs,
    };
    const run = await prepareHerd(server, plan, cleanup, () => (queries += 1));
    return { label, ...(await run()), queries };
  };
  const naive = await measure("naive cache-aside", "naive");
  const fence = await measure("cachefence", "cachefence");

  output.line();
  output.table(
    herdHeadings,
    [naive, fence].map((row) => herdCells(row, latencyMs)),
  );
  output.line();
  output.line(`${formatCount(naive.queries)} -> ${formatCount(fence.queries)}`);
}
