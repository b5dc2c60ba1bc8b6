/** A run that the Internet Archive published beside its harness: github.com/internetarchive/xfetch, samples/*.log. */
export interface PublishedRow {
  readonly strategy: string;
  readonly seconds: number;
  readonly reads: number;
  readonly hardMisses: number;
  readonly recomputes: number;
  readonly simultaneous: number;
}

// In the order of the scenario's own contenders: naive, lock only, XFetch only, both.
export const publishedRows: readonly PublishedRow[] = [
  { strategy: "fetch", seconds: 290, reads: 27_179, hardMisses: 484, recomputes: 484, simultaneous: 471 },
  { strategy: "locked", seconds: 294, reads: 27_765, hardMisses: 519, recomputes: 14, simultaneous: 0 },
  { strategy: "xfetch", seconds: 450, reads: 42_944, hardMisses: 0, recomputes: 52, simultaneous: 28 },
  { strategy: "xlocked", seconds: 317, reads: 30_025, hardMisses: 0, recomputes: 17, simultaneous: 0 },
];
