/** What the page knows, as signals, and how it goes from one state to the next. */

import { computed, signal } from "@preact/signals";
import { Api, type ApiError } from "./api";
import { PictureStore, type Picture } from "./images";
import { NO_MARKS, sameMarks, type Marks } from "./search/marks";
import { fromQuery, toQuery, type PageState } from "./state";
import type { ArchiveAnswer, CollectionAnswer, FacetsAnswer, Hit, LabelCount, Plan } from "./types";

export interface Found {
  readonly hits: readonly Hit[];
  /** Labels of the query. */
  readonly labels: readonly string[];
  /** Labels that the model predicts for the query; null where they are not known. */
  readonly predicted: readonly string[] | null;
  readonly mode: string;
  readonly cursor: string | null;
  readonly note: string | null;
  /** Says so where nothing is very similar. */
  readonly remark: string | null;
  readonly plan: Plan;
  /** Milliseconds from asking to having the answer. */
  readonly roundTrip: number;
}

export interface Before {
  readonly hits: readonly Hit[];
  readonly mode: string;
  /** What changed since, in words. */
  readonly change: string;
}

export type Phase = "idle" | "loading" | "more" | "done" | "failed" | "query-image-needed";

export const api = new Api();
export const pictures = new PictureStore();

export const state = signal<PageState>(fromQuery(location.search));
export const about = signal<ArchiveAnswer | null>(null);
export const labels = signal<readonly LabelCount[]>([]);
export const facets = signal<FacetsAnswer | null>(null);
/** Whether the archive has another version than the one that results are of. */
export const replaced = signal(false);
/** Why the archive could not be read. */
export const archiveError = signal<ApiError | null>(null);

export const phase = signal<Phase>("idle");
export const found = signal<Found | null>(null);
export const searchError = signal<ApiError | null>(null);
export const before = signal<Before | null>(null);
export const showBefore = signal(false);
/** The query image. */
export const picture = signal<Picture | null>(null);
/** Whether some marks have not been searched with yet. */
export const draft = signal<Marks>(NO_MARKS);
/** The collection that is open: it keeps the marks. */
export const collection = signal<CollectionAnswer | null>(null);
/** Ids of the selected hits. */
export const selection = signal<ReadonlySet<string>>(new Set());
/** Id of the hit that the pointer is on, in the grid or on the map. */
export const pointed = signal<string | null>(null);
/** Place of the focused hit. */
export const focus = signal(0);
/** Milliseconds of the last search in each mode, in this archive. */
export const latencies = signal<ReadonlyMap<string, number>>(new Map());
/** Read out by screen readers. */
export const announcement = signal("");
/** A message that passes: what was done, or why not. */
export const toast = signal("");

export const dialog = signal<"help" | "past" | "crop" | "collections" | "watches" | null>(null);

export const shownHits = computed(() =>
  showBefore.value && before.value ? before.value.hits : (found.value?.hits ?? []),
);
export const shownMode = computed(() =>
  showBefore.value && before.value ? before.value.mode : (found.value?.mode ?? "list"),
);
export const pendingMarks = computed(() => !sameMarks(draft.value, state.value));
export const archiveName = computed(() => about.value?.name ?? state.value.archive ?? "");

/** Go to another state; `replace` for what is no step that one goes back over. */
export function go(patch: Partial<PageState>, replace = false): void {
  const next = { ...state.value, ...patch };
  const url = location.pathname + toQuery(next);
  if (url !== location.pathname + location.search) {
    if (replace) history.replaceState(history.state, "", url);
    else history.pushState(null, "", url);
  }
  state.value = next;
}

/** Go to another search: what belongs to single hits is left behind. */
export function ask(patch: Partial<PageState>): void {
  go({ pages: 1, open: null, ...patch });
}

addEventListener("popstate", () => {
  if (closing) {
    history.replaceState(null, "", location.pathname + toQuery(closing));
    state.value = closing;
    closing = null;
  } else state.value = fromQuery(location.search);
});

let closing: PageState | null = null;

/** Open the details of a hit as a step that Back undoes; null closes them. */
export function openDetail(id: string | null): void {
  const { open } = state.value;
  if (id !== null) {
    const step = open === null;
    go({ open: id }, !step);
    if (step) history.replaceState({ opened: true }, "");
  } else if (open !== null && (history.state as { opened?: boolean } | null)?.opened) {
    // Closed by other means than Back: the step that opened them is undone, what changed since stays.
    state.value = closing = { ...state.value, open: null };
    history.back();
  } else go({ open: null }, true);
}

let fading: ReturnType<typeof setTimeout> | undefined;

/** Show a message for some seconds; it is read out too. */
export function notify(message: string): void {
  toast.value = message;
  clearTimeout(fading);
  fading = setTimeout(() => (toast.value = ""), 6000);
}
