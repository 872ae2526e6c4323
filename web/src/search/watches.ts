/** Saved searches of the archive, and the hits that were not looked at in this browser. */

import { computed, effect, signal, untracked } from "@preact/signals";
import { about, api, archiveName } from "../store";
import type { PageState } from "../state";
import type { SearchRequest, Watch, WatchHit } from "../types";
import { hasExample, requestOf } from "./request";

const LOOK_AGAIN = 60_000;
const KEY = "landcue.watches";
const PAGE = 1000;

/** Null where they are not known, and where an archive keeps none. */
export const watches = signal<readonly Watch[] | null>(null);
/** Hits that are new in this browser, up to 1,000. */
export const fresh = signal<readonly WatchHit[]>([]);
export const badge = computed(() => (fresh.value.length > 99 ? "99+" : String(fresh.value.length || "")));

/** Follow the archive, and look for new hits from time to time. */
export function followWatches(): void {
  effect(() => {
    const known = about.value;
    untracked(() => {
      watches.value = null;
      fresh.value = [];
      if (known) void lookForHits();
    });
  });
  const again = () => void (about.value && !document.hidden && lookForHits());
  setInterval(again, LOOK_AGAIN);
  addEventListener("focus", again);
}

export async function lookForHits(): Promise<void> {
  const archive = archiveName.value;
  try {
    const hits = await api.watchHits(archive, lastSeen(archive), PAGE);
    const [listed, now] = await Promise.all([api.watches(archive), api.about(archive)]);
    if (archive !== archiveName.value) return;
    watches.value = listed.watches;
    // What was just indexed can be opened seconds later, when the service has read it.
    fresh.value = hits.hits.filter((hit) => hit.version <= now.version);
  } catch {
    // A server that is away says so elsewhere; archives outside of local folders have no saved searches.
  }
}

/** Return all hits of a saved search, the newest first. */
export async function hitsOf(name: string): Promise<readonly WatchHit[]> {
  const found: WatchHit[] = [];
  for (let after = 0; ; ) {
    const { hits } = await api.watchHits(archiveName.value, after, 10 * PAGE);
    found.push(...hits.filter((hit) => hit.watch === name));
    after = hits.at(-1)?.number ?? 0;
    if (hits.length < 10 * PAGE) return found.reverse();
  }
}

/** Take the hits of today as looked at. */
export function seeHits(): void {
  const last = fresh.value.at(-1)?.number;
  if (last === undefined) return;
  fresh.value = [];
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...seen(), [archiveName.value]: last }));
  } catch {
    // Storage is full or switched off: they count as new when the page is opened again.
  }
}

/** Return the search to save: its example and its filters; the threshold is chosen apart. */
export function watchedSearch(state: PageState): SearchRequest {
  const { archive, id, text, images_of, positives, negatives, filters, mode } = requestOf(state);
  const own = { archive, id, text, images_of, positives, negatives: hasExample(state) ? negatives : undefined, filters, mode };
  return Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
}

function lastSeen(archive: string): number {
  const last = seen()[archive];
  return typeof last === "number" && Number.isSafeInteger(last) && last > 0 ? last : 0;
}

function seen(): Record<string, unknown> {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return typeof found === "object" && found !== null ? (found as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
