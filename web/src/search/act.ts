/** Actions on a hit: mark it, open it, search with it, share it. */

import type { FilterState } from "../state";
import * as store from "../store";
import { keepMarks } from "./collection";
import { marked, markedAll, markOf } from "./marks";

/** Mark a hit, or take the same mark back. */
export function markHit(id: string, as: "good" | "bad"): void {
  store.draft.value = marked(store.draft.value, id, as);
  const now = markOf(store.draft.value, id);
  const { positives, negatives } = store.draft.value;
  keepMarks([id], now);
  store.announcement.value = `${now ? `Marked ${now}` : "Mark removed"}. ${positives.length} good, ${negatives.length} bad. R refines.`;
}

/** Mark some hits alike; null removes their marks. */
export function markHits(ids: readonly string[], as: "good" | "bad" | null): void {
  store.draft.value = markedAll(store.draft.value, ids, as);
  keepMarks(ids, as);
  store.announcement.value = `${ids.length} ${as ? `marked ${as}` : "marks removed"}.`;
}

let anchor: string | null = null;

/** Select a hit or take it out; `range` selects all from the one before to it. */
export function selectHit(id: string, range: boolean): void {
  const ids = store.shownHits.value.map((hit) => hit.id);
  const next = new Set(store.selection.value);
  const [from, to] = [ids.indexOf(anchor ?? ""), ids.indexOf(id)];
  if (range && from >= 0 && to >= 0) {
    for (const one of ids.slice(Math.min(from, to), Math.max(from, to) + 1)) next.add(one);
  } else if (!next.delete(id)) next.add(id);
  anchor = id;
  store.selection.value = next;
  store.announcement.value = `${next.size} selected.`;
}

/** Select all hits that are shown, or none. */
export function selectAll(on = true): void {
  store.selection.value = new Set(on ? store.shownHits.value.map((hit) => hit.id) : []);
}

/** Open the details of a hit; null closes them. */
export function openHit(id: string | null): void {
  const at = store.shownHits.value.findIndex((hit) => hit.id === id);
  if (at >= 0) store.focus.value = at;
  store.openDetail(id);
}

/** Move the focus into the grid, to the hit that had it last; return whether there is one. */
export function focusGrid(): boolean {
  const card = document.querySelector<HTMLElement>('.card-image[tabindex="0"]');
  card?.focus();
  return card !== null;
}

/** Copy the address of this search; a query image is not part of it. */
export async function copyLink(): Promise<void> {
  const image = store.state.value.query.kind === "image";
  try {
    await navigator.clipboard.writeText(location.href);
    store.notify(
      image
        ? "Link copied. Your image stays in this browser; anyone who opens the link must supply the image again."
        : "Link copied.",
    );
  } catch {
    store.notify("The browser blocked copying; copy the link from the address bar.");
  }
}

/** Set the filters; the details stay open. */
export function setFilter(filters: FilterState): void {
  store.ask({ filters, open: store.state.value.open });
}
