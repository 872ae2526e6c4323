/** Marks for and against: a hit is good, bad, or neither. */

export interface Marks {
  readonly positives: readonly string[];
  readonly negatives: readonly string[];
}

export const NO_MARKS: Marks = { positives: [], negatives: [] };

/** Mark an id, or take the same mark back. */
export function marked(marks: Marks, id: string, as: "good" | "bad", most = 100): Marks {
  const [own, other] = as === "good" ? [marks.positives, marks.negatives] : [marks.negatives, marks.positives];
  const rest = other.filter((known) => known !== id);
  const next = own.includes(id) ? own.filter((known) => known !== id) : [...own, id].slice(-most);
  return as === "good" ? { positives: next, negatives: rest } : { positives: rest, negatives: next };
}

/** Mark some ids alike, or remove their marks. */
export function markedAll(marks: Marks, ids: readonly string[], as: "good" | "bad" | null, most = 100): Marks {
  const rest = (known: readonly string[]) => known.filter((id) => !ids.includes(id));
  const [positives, negatives] = [rest(marks.positives), rest(marks.negatives)];
  return {
    positives: as === "good" ? [...positives, ...ids].slice(-most) : positives,
    negatives: as === "bad" ? [...negatives, ...ids].slice(-most) : negatives,
  };
}

export function markOf(marks: Marks, id: string): "good" | "bad" | null {
  if (marks.positives.includes(id)) return "good";
  return marks.negatives.includes(id) ? "bad" : null;
}

export function sameMarks(a: Marks, b: Marks): boolean {
  return same(a.positives, b.positives) && same(a.negatives, b.negatives);
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((id) => b.includes(id));
}
