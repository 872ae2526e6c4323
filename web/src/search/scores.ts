/** Scores of hits, the best first. */

/** Return how many scores lie in each of some equal steps from the worst to the best. */
export function histogram(scores: readonly number[], steps: number): number[] {
  const out = new Array<number>(steps).fill(0);
  const [best, worst] = [scores[0] ?? 0, scores.at(-1) ?? 0];
  for (const score of scores) {
    const at = best > worst ? Math.floor(((score - worst) / (best - worst)) * steps) : 0;
    out[Math.min(steps - 1, at)]! += 1;
  }
  return out;
}

/** Return how many scores are at least as large as one. */
export function passing(scores: readonly number[], least: number): number {
  return scores.filter((score) => score >= least).length;
}
