/**
 * Runs A B C, B C A, C A B, ...: every contender meets the same machine in every round, and none always follows the
 * same neighbour.
 */
export async function interleave<C>(
  contenders: readonly C[],
  rounds: number,
  measure: (contender: C, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      await measure(contenders[(round + turn) % contenders.length]!, round);
    }
  }
}
