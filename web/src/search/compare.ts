/** What a new ranking changed: who moved, who is new, who is gone. */

export interface Comparison {
  /** Ranks from 1 of hits in both, by id. */
  readonly moved: ReadonlyMap<string, { readonly from: number; readonly to: number }>;
  readonly fresh: readonly string[];
  readonly dropped: readonly string[];
  readonly up: number;
  readonly down: number;
  readonly same: number;
}

/**
 * Compare two rankings.
 *
 * A hit dropped when it stood among as many hits as there are now and is not there any more. Ids
 * of the query itself are excluded and do not count.
 */
export function compare(
  before: readonly string[],
  after: readonly string[],
  queryIds: ReadonlySet<string> = new Set(),
): Comparison {
  const old = new Map(before.map((id, at) => [id, at + 1]));
  const now = new Set(after);
  const moved = new Map<string, { from: number; to: number }>();
  const fresh: string[] = [];
  let up = 0;
  let down = 0;
  after.forEach((id, at) => {
    const from = old.get(id);
    if (from === undefined) fresh.push(id);
    else {
      const to = at + 1;
      moved.set(id, { from, to });
      if (to < from) up += 1;
      if (to > from) down += 1;
    }
  });
  const dropped = before.slice(0, after.length || before.length).filter((id) => !now.has(id) && !queryIds.has(id));
  return { moved, fresh, dropped, up, down, same: moved.size - up - down };
}

/** Say a comparison in words. */
export function inWords(found: Comparison): string {
  const parts = [
    [found.fresh.length, "new"],
    [found.up, "moved up"],
    [found.down, "moved down"],
    [found.dropped.length, "dropped"],
  ] as const;
  const words = parts.filter(([count]) => count).map(([count, word]) => `${count} ${word}`);
  return words.length ? words.join(", ") : "Nothing changed";
}
