import type { Runtime } from "../runtime.js";

// No number above zero has a logarithm below -745.
const LONGEST_DRAW = 745;

/**
 * XFetch: should this reader refresh an entry before it expires?
 *
 * Refresh iff `now - delta * beta * ln(u) >= expiry`. The draw makes one early reader likely shortly before expiry and
 * the more so the longer a rebuild takes; past the expiry the answer is always yes.
 *
 * Source: A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
 *
 * @param beta - eagerness; 1 is the paper's optimum, 0 refreshes only what has expired
 * @param chance - draws u, uniform on (0, 1]; asked only where some u could say yes, for every hit comes here
 */
export function shouldRefreshEarly(
  entry: { readonly deltaSeconds: number; readonly expirySeconds: number },
  beta: number,
  nowSeconds: number,
  chance: Pick<Runtime, "random">,
): boolean {
  const { deltaSeconds, expirySeconds } = entry;
  // Said apart, for what is due whatever the draw must not hang on 0 * Infinity.
  if (nowSeconds >= expirySeconds) return true;
  if (expirySeconds - nowSeconds > LONGEST_DRAW * deltaSeconds * beta) return false;
  return nowSeconds - deltaSeconds * beta * Math.log(chance.random()) >= expirySeconds;
}
