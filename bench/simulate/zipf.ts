/** The share of all requests that each of `keys` keys gets, the most asked first: proportional to rank^-exponent. */
export function zipfShares(keys: number, exponent: number): Float64Array {
  const shares = Float64Array.from({ length: keys }, (_, place) => (place + 1) ** -exponent);
  const total = shares.reduce((sum, share) => sum + share, 0);
  return shares.map((share) => share / total);
}
