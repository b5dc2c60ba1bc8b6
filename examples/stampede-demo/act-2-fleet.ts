import { Fleet } from "./fleet.js";
import { herdCells, herdHeadings, type HerdRow } from "./herd-table.js";
import { formatCount } from "./output.js";
import type { RealServer } from "./server-choice.js";
import type { Stage } from "./stage.js";
import type { StrategyName } from "./strategies.js";

export async function actTwo({ server, options, keys, cleanup, output }: Stage<RealServer>): Promise<void> {
  const { processes, latencyMs } = options;
  const callers = Math.ceil(options.callers / 2);
  output.line("Act 2: a fleet");
  output.paragraph(
    `The same in ${processes} processes with ${formatCount(callers)} callers each: sharing a query inside each process ` +
      "still leaves one query per process, and only a lock in Redis brings them down to one.",
  );

  output.progress(`starting ${processes} processes`);
  const fleet = new Fleet(server, processes, cleanup);
  const measure = async (label: string, strategy: StrategyName): Promise<HerdRow> => {
    output.progress(`${label}: ${processes} processes x ${formatCount(callers)} callers`);
    const key = keys.name(`act-2:${strategy}`);
    const run = await fleet.run((worker) => ({
      strategy,
      key,
      warmUpKey: keys.name(`act-2:warm-up:${strategy}:${worker}`),
      callers,
      latencyMs,
    }));
    return { label, ...run };
  };
  const rows = [
    await measure("naive cache-aside", "naive"),
    await measure("in-process coalescing", "coalescing"),
    await measure("cachefence", "cachefence"),
  ];
  await fleet.close();

  output.line();
  output.table(
    herdHeadings,
    rows.map((row) => herdCells(row, latencyMs)),
  );
  output.line();
  output.line(rows.map((row) => formatCount(row.queries)).join(" -> "));
}
