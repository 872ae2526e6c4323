/** Changing filters, chip by chip. */

import type { FilterState } from "../state";

/** How a label is wanted: all of these, any of these, none of these. */
export type Wanted = "all" | "any" | "none";

export const WANTED: readonly Wanted[] = ["all", "any", "none"];

export const WANTED_WORD: Record<Wanted, string> = { all: "must", any: "any of", none: "exclude" };

/** Want a label in one way; it leaves the others. */
export function wantLabel(filters: FilterState, name: string, wanted: Wanted): FilterState {
  const rest = dropLabel(filters, name);
  return { ...rest, [wanted]: [...rest[wanted], name] };
}

export function dropLabel(filters: FilterState, name: string): FilterState {
  const without = (names: readonly string[]) => names.filter((known) => known !== name);
  return { ...filters, all: without(filters.all), any: without(filters.any), none: without(filters.none) };
}

export function wantedOf(filters: FilterState, name: string): Wanted | null {
  return WANTED.find((wanted) => filters[wanted].includes(name)) ?? null;
}

/** Go on to the next way to want a label. */
export function turnLabel(filters: FilterState, name: string): FilterState {
  const now = wantedOf(filters, name);
  const next = WANTED[(WANTED.indexOf(now ?? "none") + 1) % WANTED.length] ?? "all";
  return wantLabel(filters, name, next);
}

/** Ask for a predicted score of a label, 0..1; null takes the condition away. */
export function setScore(filters: FilterState, name: string, least: number | null): FilterState {
  const rest = filters.scores.filter(([known]) => known !== name);
  if (least === null || !Number.isFinite(least)) return { ...filters, scores: rest };
  const bounded = Math.round(Math.min(1, Math.max(0, least)) * 100) / 100;
  return { ...filters, scores: [...rest, [name, bounded]] };
}

/** Put a value into a list of filters, or take it out. */
export function toggled(values: readonly string[], value: string): string[] {
  return values.includes(value) ? values.filter((known) => known !== value) : [...values, value];
}

/** Set the first and the last day; in the wrong order they change places. */
export function setDays(filters: FilterState, from: string | null, until: string | null): FilterState {
  return from && until && from > until ? { ...filters, from: until, until: from } : { ...filters, from, until };
}

/** Return labels for a typed text: those that begin with it first, then by how many records. */
export function suggest<T extends { name: string; records: number }>(known: readonly T[], text: string, most = 8): T[] {
  const wanted = text.trim().toLowerCase();
  const begins = (one: T) => Number(one.name.toLowerCase().startsWith(wanted));
  return known
    .filter((one) => one.name.toLowerCase().includes(wanted))
    .sort((a, b) => begins(b) - begins(a) || b.records - a.records || a.name.localeCompare(b.name))
    .slice(0, most);
}

/** Return the label name that is being typed at a place of an expression; null for none. */
export function wordAt(text: string, caret: number): { text: string; start: number; end: number } | null {
  const before = text.slice(0, caret);
  const last = [...before.matchAll(/[(),]\s*|(?<=^|[\s(),])(?:and|or|not)\s+/gi)].at(-1);
  const from = last ? last.index + last[0].length : before.length - before.trimStart().length;
  const word = before.slice(from);
  const name = word.replace(/^["']/, "");
  return name.trim() && !/["']$/.test(name) ? { text: name, start: from, end: caret } : null;
}

/** Say the days that a search is limited to; nothing for all. */
export function sayDays({ from, until }: Pick<FilterState, "from" | "until">): string {
  if (from && until) return `${from} to ${until}`;
  return from ? `from ${from}` : until ? `until ${until}` : "";
}
