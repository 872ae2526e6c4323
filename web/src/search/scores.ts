/** Counts of scores by equal ranges, the lowest first, as the service returns them. */

/** Return about how many records reach a score: exact at an edge, in proportion within a range. */
export function passing(counts: readonly number[], edges: readonly number[], least: number): number {
  return Math.round(
    counts.reduce((sum, n, i) => {
      const [low, high] = [edges[i] as number, edges[i + 1] as number];
      if (least <= low) return sum + n;
      return least >= high ? sum : sum + (n * (high - least)) / (high - low);
    }, 0),
  );
}
