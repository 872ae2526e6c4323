/** Actions on a hit: mark it, open it, search with it, share it. */

import { ApiError } from "../api";
import type { FilterState } from "../state";
import * as store from "../store";
import { marked, markOf } from "./marks";

/** Mark a hit, or take the same mark back. */
export function markHit(id: string, as: "good" | "bad"): void {
  store.draft.value = marked(store.draft.value, id, as);
  const now = markOf(store.draft.value, id);
  const { positives, negatives } = store.draft.value;
  store.announcement.value = `${now ? `Marked ${now}` : "Mark removed"}. ${positives.length} good, ${negatives.length} bad. R refines.`;
}

/** Open the details of a hit; null closes them. */
export function openHit(id: string | null): void {
  const at = store.shownHits.value.findIndex((hit) => hit.id === id);
  if (at >= 0) store.focus.value = at;
  store.go({ open: id }, true);
}

/** Move the focus into the grid, to the hit that had it last; return whether there is one. */
export function focusGrid(): boolean {
  const card = document.querySelector<HTMLElement>('.card-image[tabindex="0"]');
  card?.focus();
  return card !== null;
}

/** Save the marks on the server, as training data. */
export async function sendFeedback(): Promise<void> {
  const { positives, negatives } = store.draft.value;
  const { archive, query, mode } = store.state.value;
  try {
    await store.api.feedback({
      positives: [...positives],
      negatives: [...negatives],
      mode: store.found.value?.mode ?? mode,
      ...(archive ? { archive } : {}),
      ...(query.kind === "record" ? { query: query.id } : {}),
    });
    store.notify("The marks were saved on the server.");
  } catch (error) {
    store.notify(error instanceof ApiError ? error.message : "The marks could not be saved.");
  }
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
