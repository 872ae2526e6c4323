/** Runs what the state asks for: the archive's facts, searches, further pages, refinements. */

import { computed, effect, untracked } from "@preact/signals";
import { ApiError } from "../api";
import { pictureOf, rasterPicture, sentOf, type Picture, type Raster, type Reader } from "../images";
import * as store from "../store";
import type { PageState } from "../state";
import { MOST_HITS } from "../state";
import type { SearchAnswer } from "../types";
import { focusGrid } from "./act";
import { changesSent, followCollection, keepMarks } from "./collection";
import { NO_MARKS, sameMarks, type Marks } from "./marks";
import { remember } from "./remember";
import { exampleKey, hasExample, isBrowsing, isSearch, requestOf, searchKey, suggestRequestOf } from "./request";

const LOOK_AGAIN = 60_000;

let asking: AbortController | null = null;
let lastState: PageState | null = null;

/** Follow the state from now on. */
export function follow(): void {
  const archive = computed(() => store.state.value.archive);
  effect(() => {
    const name = archive.value;
    untracked(() => {
      const known = store.about.value;
      if (!known || known.name !== (name ?? known.archives[0])) void loadArchive();
    });
  });
  setInterval(() => void lookAgain(), LOOK_AGAIN);
  followCollection();
  effect(() => {
    const state = store.state.value;
    untracked(() => {
      if (state.page === "search" && (!lastState || searchKey(lastState) !== searchKey(state))) void search();
    });
  });
  effect(() => {
    const marks = store.draft.value;
    if (lastState) writeDraft(marks);
  });
}

/** Learn whether the archive was indexed again, or the service started again, since the page was opened. */
async function lookAgain(): Promise<void> {
  const known = store.about.value;
  if (!known || document.hidden) return;
  const now = await store.api.about(known.name).catch(() => known);
  if (store.about.value !== known) return;
  const differs = (["stale", "deleted", "version", "updated"] as const).some((key) => now[key] !== known[key]);
  if (now.version !== known.version || now.updated !== known.updated) store.replaced.value = true;
  if (differs) store.about.value = now;
}

/** Read what the archive is, and what can be filtered in it. */
export async function loadArchive(): Promise<void> {
  const name = store.state.value.archive;
  store.about.value = store.facets.value = null;
  store.replaced.value = false;
  store.labels.value = [];
  store.latencies.value = new Map();
  store.archiveError.value = null;
  try {
    const [about, labels, facets] = await Promise.all([
      store.api.about(name),
      store.api.labels(name),
      store.api.facets(name),
    ]);
    if (name !== store.state.value.archive) return;
    store.about.value = about;
    store.labels.value = labels;
    store.facets.value = facets;
  } catch (error) {
    if (name === store.state.value.archive) store.archiveError.value = asApiError(error);
  }
}

/** Search for what the state asks, or show the start when it asks for nothing. */
export async function search(): Promise<void> {
  const state = store.state.value;
  const old = lastState;
  asking?.abort();
  lastState = state;
  // Marks of a collection stay, and so do those not searched with yet while only filters change.
  const kept = old && exampleKey(old) === exampleKey(state) && sameMarks(old, state);
  if (!store.collection.value && !kept) store.draft.value = readDraft() ?? { positives: state.positives, negatives: state.negatives };
  if (!old || searchKey(old) !== searchKey(state)) store.selection.value = new Set();
  store.showBefore.value = false;
  if (!old || exampleKey(old) !== exampleKey(state)) store.focus.value = 0;
  if (!isSearch(state) && !isBrowsing(state)) {
    store.found.value = store.before.value = store.picture.value = null;
    store.phase.value = "idle";
    return;
  }
  const mine = (asking = new AbortController());
  const inside = document.activeElement?.closest(".grid, .detail, .landing, .marks") != null;
  store.phase.value = "loading";
  store.announcement.value = "Searching.";
  try {
    const image = await imageOf(state);
    if (mine.signal.aborted) return;
    if (image === undefined) {
      store.found.value = store.before.value = null;
      store.phase.value = "query-image-needed";
      return;
    }
    const known = predictedOf(state, mine.signal);
    const started = performance.now();
    const answer = await store.api.search(requestOf(state), image, mine.signal);
    const roundTrip = performance.now() - started;
    const predicted = ["image", "kept"].includes(state.query.kind) ? answer.labels : await known;
    if (mine.signal.aborted) return;
    keepBefore(old, state);
    show(answer, predicted, roundTrip);
    if (inside) keepFocus();
    if (isSearch(state)) remember(state);
  } catch (error) {
    if (mine.signal.aborted) return;
    store.searchError.value = asApiError(error);
    store.found.value = store.before.value = null;
    store.phase.value = "failed";
  }
}

/** Put the focus on a hit when the element that had it is gone with the hits before. */
function keepFocus(): void {
  setTimeout(() => {
    if (!document.activeElement || document.activeElement === document.body) focusGrid();
  }, 60);
}

/** Get the hits after those shown. */
export async function more(): Promise<void> {
  const [state, known] = [store.state.value, store.found.value];
  if (!known?.cursor || store.phase.value !== "done" || known.hits.length >= MOST_HITS) return;
  const mine = (asking = new AbortController());
  store.phase.value = "more";
  try {
    const image = await imageOf(state);
    const request = { ...requestOf(state), k: state.k, cursor: known.cursor };
    const answer = await store.api.search(request, image ?? null, mine.signal);
    const hits = [...known.hits, ...answer.hits];
    store.found.value = { ...known, hits, cursor: answer.cursor };
    store.phase.value = "done";
    store.announcement.value = `${answer.hits.length} more results, ${hits.length} in total.`;
    lastState = { ...state, pages: state.pages + 1 };
    store.go({ pages: state.pages + 1 }, true);
  } catch (error) {
    if (mine.signal.aborted) return;
    store.phase.value = "done";
    store.notify(asApiError(error).message);
  }
}

/** Search again with the marks. */
export function refine(): void {
  const { positives, negatives } = store.draft.value;
  const state = store.state.value;
  if (!store.pendingMarks.value) return;
  if (!positives.length && !hasExample({ ...state, positives })) {
    store.notify("Mark at least one result as good before refining.");
    return;
  }
  store.ask({ positives, negatives });
}

/** Show records to mark next: by the marks, or by a label of the open collection. */
export async function suggest(label: string | null = null): Promise<void> {
  const [state, marks] = [store.state.value, store.draft.value];
  asking?.abort();
  const mine = (asking = new AbortController());
  const old = store.phase.value;
  store.phase.value = "loading";
  store.announcement.value = "Looking for what to label next.";
  try {
    await changesSent();
    const started = performance.now();
    const answer = await store.api.suggest(suggestRequestOf(state, marks, store.collection.value?.id ?? null, label), mine.signal);
    if (mine.signal.aborted) return;
    store.before.value = null;
    store.showBefore.value = false;
    show(answer, null, performance.now() - started);
    store.focus.value = 0;
    if (answer.note && answer.hits.length) store.notify(`${answer.note}.`);
  } catch (error) {
    if (mine.signal.aborted) return;
    store.phase.value = old === "loading" ? "idle" : old;
    store.notify(asApiError(error).message);
  }
}

export function clearMarks(): void {
  const { positives, negatives } = store.draft.value;
  keepMarks([...positives, ...negatives], null);
  store.draft.value = NO_MARKS;
  if (store.state.value.positives.length || store.state.value.negatives.length) store.ask(NO_MARKS);
}

const DRAFT = "landcue.draft";
let restored = false;

/** Return the marks that this tab had at this search when it was closed or reloaded, once. */
function readDraft(): Marks | null {
  if (restored) return null;
  restored = true;
  try {
    const { key, marks } = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null") as { key: string; marks: Marks };
    return key === exampleKey(store.state.value) ? marks : null;
  } catch {
    return null;
  }
}

function writeDraft(marks: Marks): void {
  try {
    sessionStorage.setItem(DRAFT, JSON.stringify({ key: exampleKey(store.state.value), marks }));
  } catch {
    // Storage is switched off: marks last as long as the page.
  }
}

/** Ask with a record. */
export function askRecord(id: string, patch: Partial<PageState> = {}): void {
  store.ask({ page: "search", query: { kind: "record", id }, least: null, ...NO_MARKS, ...patch });
}

/** Ask with a file as it was dropped, pasted or chosen. */
export async function searchFile(file: Blob, name: string): Promise<boolean> {
  if (store.about.value && !store.about.value.encodes_images) {
    store.notify("This archive has no model to encode new images. Choose one of its records instead.");
    return false;
  }
  try {
    return await searchPicture(await pictureOf(file, name, reader()));
  } catch (error) {
    store.notify(error instanceof Error ? error.message : `${name} cannot be read.`);
    return false;
  }
}

/** Ask with a raster, its bands and scale chosen anew. */
export async function searchRaster(raster: Raster, name: string): Promise<void> {
  await searchPicture(await rasterPicture(raster, name, reader()));
}

/** What the server takes as query images. */
export function reader(): Reader {
  const about = store.about.value;
  return {
    maxPixels: about?.max_pixels || Infinity,
    maxBytes: about?.max_upload_bytes || Infinity,
    render: (raster) => store.api.rendered(store.state.value.archive, raster.blob, raster.bands, raster.scale),
  };
}

async function searchPicture(picture: Picture): Promise<boolean> {
  await store.pictures.keep(picture);
  store.picture.value = picture;
  const { query } = store.state.value;
  if (query.kind === "image" && query.key === picture.key) {
    // The image that a shared link lacked: its region, marks and filters stay.
    await search();
  } else store.ask({ page: "search", query: { kind: "image", key: picture.key, crop: null }, least: null, ...NO_MARKS });
  return true;
}

/** The image a state asks with: null for none, undefined when it is not in this browser. */
export async function imageOf(state: PageState): Promise<Blob | null | undefined> {
  if (state.query.kind !== "image") {
    store.picture.value = null;
    return null;
  }
  const known = store.picture.value;
  const picture = known?.key === state.query.key ? known : await store.pictures.find(state.query.key);
  store.picture.value = picture;
  return picture ? sentOf(picture, state.query.crop) : undefined;
}

/** Labels the model predicts for the query record. */
async function predictedOf(state: PageState, signal: AbortSignal): Promise<string[] | null> {
  if (state.query.kind !== "record") return null;
  try {
    return (await store.api.record(state.query.id, state.archive, signal)).predicted_labels;
  } catch {
    return null;
  }
}

function show(answer: SearchAnswer, predicted: readonly string[] | null, roundTrip: number): void {
  const { hits, labels, mode, cursor, note, plan } = answer;
  const remark = answer.remark ?? null;
  store.found.value = { hits, labels, predicted, mode, cursor, note, remark, plan, roundTrip };
  store.searchError.value = null;
  store.phase.value = "done";
  store.latencies.value = new Map(store.latencies.value).set(mode, plan.milliseconds);
  store.focus.value = Math.min(store.focus.value, Math.max(0, hits.length - 1));
  const one = hits.length === 1;
  store.announcement.value = hits.length
    ? mode === "suggest"
      ? `${hits.length} to label next.`
      : `${hits.length} ${one ? "result" : "results"}, mode ${mode}.`
    : `No results. ${note ?? ""}`;
}

/** Keep the ranking that the next one is compared with: that of the same example before. */
function keepBefore(old: PageState | null, state: PageState): void {
  const known = store.found.value;
  const same = old && known && hasExample(old) && hasExample(state) && exampleKey(old) === exampleKey(state);
  store.before.value = same ? { hits: known.hits, mode: known.mode, change: changeOf(old, state) } : null;
}

function changeOf(old: PageState, state: PageState): string {
  const differ = (key: "positives" | "negatives" | "filters" | "mode" | "least" | "percentile" | "collapse") =>
    JSON.stringify(old[key]) !== JSON.stringify(state[key]);
  if (differ("positives") || differ("negatives")) return "refining with your marks";
  if (differ("mode")) return "changing the ranking method";
  if (differ("least")) return "changing the minimum score";
  if (differ("percentile")) return "changing the minimum percentile";
  if (differ("collapse")) return state.collapse ? "hiding near-duplicates" : "showing near-duplicates";
  return differ("filters") ? "changing the filters" : "changing the number of results";
}

function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(-1, error instanceof Error ? error.message : "The page hit an unexpected error.");
}
