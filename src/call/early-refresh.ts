/**
 * XFetch: should this reader refresh an entry before it expires?
 *
 * Refresh iff `now - delta * beta * ln(u) >= expiry`. The draw makes one early reader likely shortly before expiry and
 * the more so the longer a rebuild takes; past the expiry the answer is always yes.
 *
 * Source: A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
 *
 * @param beta - eagerness; 1 is the paper's optimum, 0 refreshes only what has expired
 * @param u - uniform on (0, 1]
 */
export function shouldRefreshEarly(
  entry: { readonly deltaSeconds: number; readonly expirySeconds: number },
  beta: number,
  nowSeconds: number,
  u: number,
): boolean {
  // Said apart, for what is due whatever the draw must not hang on 0 * Infinity.
  if (nowSeconds >= entry.expirySeconds) return true;
  return nowSeconds - entry.deltaSeconds * beta * Math.log(u) >= entry.expirySeconds;
}
