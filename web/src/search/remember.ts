/** The list of searches made before, kept in this browser. */

import { signal } from "@preact/signals";
import { toQuery, type PageState } from "../state";
import * as store from "../store";
import { sayDays } from "./filters";
import { readPast, visited, writePast, type Visit } from "./past";
import { expressionOf } from "./request";
import { shortId } from "./why";

const KEY = "landcue.past";

export const past = signal<readonly Visit[]>(load());

/** Put a search first in the list. */
export function remember(state: PageState): void {
  const plain = { ...state, open: null, pages: 1, view: "grid" as const };
  const first = state.query.kind === "none" ? (store.found.value?.hits[0]?.id ?? null) : null;
  const visit: Visit = {
    url: toQuery(plain),
    title: titleOf(state),
    at: Date.now(),
    thumb: state.query.kind === "record" ? state.query.id : (state.positives[0] ?? first),
    archive: store.archiveName.value || null,
  };
  write(visited(past.value, visit));
}

export function clearHistory(): void {
  write([]);
}

/** Say a search in a few words. */
export function titleOf(state: PageState): string {
  const { query, filters } = state;
  const crop = query.kind === "image" && query.crop ? "a region of " : "";
  const parts = [
    query.kind === "record" ? shortId(query.id) : "",
    query.kind === "text" ? `“${query.text}”` : "",
    query.kind === "kept" ? "an image" : "",
    query.kind === "image" ? crop + (store.picture.value?.name ?? "an image") : "",
    state.positives.length ? `${state.positives.length} good` : "",
    state.negatives.length ? `${state.negatives.length} bad` : "",
    expressionOf(filters),
    ...filters.scores.map(([name, least]) => `${name} ≥ ${least}`),
    filters.groups.join(" or "),
    sayDays(filters),
    filters.box ? "in a bounding box" : "",
    state.least === null ? "" : `score ≥ ${state.least}`,
    state.percentile === null ? "" : `percentile ≥ ${state.percentile}`,
    state.mode === "auto" ? "" : state.mode,
  ].filter(Boolean);
  return parts.join(" · ") || "All records";
}

function write(visits: readonly Visit[]): void {
  past.value = visits;
  try {
    localStorage.setItem(KEY, writePast(visits));
  } catch {
    // Storage is full or switched off: the list lasts as long as the page.
  }
}

function load(): Visit[] {
  try {
    return readPast(localStorage.getItem(KEY));
  } catch {
    return [];
  }
}
