/** The open collection: marks, notes and labels that the server keeps, for everybody who opens its link. */

import { effect, untracked } from "@preact/signals";
import { ApiError } from "../api";
import { sentOf } from "../images";
import { readPolygon, type Rings } from "../map/polygon";
import * as store from "../store";
import { NO_FILTERS, readBox, readInterval, START, writeInterval, type PageState } from "../state";
import type { CollectionAnswer, CollectionChange, Filters, Mark, SearchRequest } from "../types";
import { NO_MARKS, type Marks } from "./marks";
import { titleOf } from "./remember";
import { requestOf } from "./request";

const LOOK_AGAIN = 8_000;
const MOST_EXAMPLES = 100;
const WHO = "landcue.who";

let sending: Promise<unknown> = Promise.resolve();
let waiting = 0;

/** Return the marks of a collection, the last ones where there are too many to search with. */
export function marksOf(collection: CollectionAnswer): Marks {
  const members = [...collection.members].sort((a, b) => a.time.localeCompare(b.time));
  const ids = (as: string) => members.filter((one) => one.mark === as).map((one) => one.id).slice(-MOST_EXAMPLES);
  return { positives: ids("good"), negatives: ids("bad") };
}

/** Return the labels given to a record in a collection. */
export function labelsOf(collection: CollectionAnswer | null, id: string): readonly string[] {
  return collection?.members.find((one) => one.id === id)?.labels ?? [];
}

/** Follow the state: open the collection that it names, and read what others change in it. */
export function followCollection(): void {
  effect(() => {
    const id = store.state.value.collection;
    untracked(() => {
      if (id !== (store.collection.value?.id ?? null)) void load(id);
    });
  });
  setInterval(() => {
    const known = store.collection.value;
    if (known && !waiting && !document.hidden) void load(known.id, true);
  }, LOOK_AGAIN);
}

async function load(id: string | null, again = false): Promise<void> {
  if (id === null) {
    store.collection.value = null;
    const { positives, negatives } = store.state.value;
    store.draft.value = { positives, negatives };
    return;
  }
  try {
    const found = await store.api.collection(id);
    if (store.state.value.collection === id && !waiting) show(found);
  } catch (error) {
    if (store.state.value.collection !== id) return;
    if (again && !(error instanceof ApiError && error.status === 404)) return;
    store.collection.value = null;
    store.go({ collection: null }, true);
    store.notify(`The collection cannot be opened. ${messageOf(error)}`);
  }
}

function show(found: CollectionAnswer): void {
  if (JSON.stringify(found) === JSON.stringify(store.collection.value)) return;
  store.collection.value = found;
  store.draft.value = marksOf(found);
}

/** Show a collection from the list: its search, with its marks. */
export function openCollection(found: CollectionAnswer): void {
  const query = (found.query ?? {}) as SearchRequest;
  const marks = marksOf(found);
  store.collection.value = found;
  showSearch(query, {
    ...(found.images?.length ? { query: { kind: "kept", id: found.id } } : {}),
    ...(marks.positives.length || query.id ? marks : NO_MARKS),
    collection: found.id,
  });
  store.draft.value = marks;
}

/** Show a search that was stored as a request; what the page has no field for is named. */
export function showSearch(given: SearchRequest, patch: Partial<PageState> = {}): void {
  const asked = given.filters ?? {};
  const { view, archive, collection } = store.state.value;
  const [from, until] = readInterval(asked.datetime ?? "");
  const next: PageState = {
    ...START,
    archive,
    view,
    collection,
    query: given.images_of ? { kind: "kept", id: given.images_of } : given.id ? { kind: "record", id: given.id } : given.text ? { kind: "text", text: given.text } : { kind: "none" },
    positives: given.positives ?? [],
    negatives: given.negatives ?? [],
    mode: given.mode ?? START.mode,
    least: given.min_score ?? null,
    percentile: given.min_percentile ?? null,
    collapse: Boolean(given.collapse),
    filters: {
      ...NO_FILTERS,
      expression: asked.labels ?? "",
      scores: Object.entries(asked.scores ?? {}),
      groups: asked.groups ?? [],
      sensors: asked.sensors ?? [],
      parts: asked.parts ?? [],
      from,
      until,
      box: readBox((asked.bbox ?? []).join(",")),
      polygon: storedPolygon(asked.polygon),
    },
  };
  store.ask({ ...next, ...patch });
  const left = leftOut(given, requestOf(next));
  if (left.length) store.notify(`The page cannot show all of this search; it leaves out: ${left.join(", ")}.`);
}

const isSet = (value: unknown) => value !== null && value !== undefined && !(typeof value === "object" && !Object.keys(value).length);

/** Write filters as the page does: an interval of days may be written in several ways. */
function inDays(filters: Filters): Filters {
  const text = filters.datetime?.replace(/T00:00:00(\.0+)?(Z|\+00:00)(?=\/)/i, "").replace(/(?<=\/.*)T23:59:59\.9+(Z|\+00:00)$/i, "");
  return text && !/T/i.test(text) ? { ...filters, datetime: writeInterval(readInterval(text)) } : filters;
}

/** Return the fields of a stored search that another one lacks. */
function leftOut(given: SearchRequest, shown: SearchRequest): string[] {
  const rest = ({ filters: _, archive: _a, k: _k, predicted: _p, rule: _r, ...own }: SearchRequest) => own;
  const missing = (a: object, b: object) => Object.entries(a).filter(([name, value]) => isSet(value) && JSON.stringify(value) !== JSON.stringify((b as Record<string, unknown>)[name] ?? null)).map(([name]) => name);
  return [...missing(rest(given), { mode: "auto", ...rest(shown) }), ...missing(inDays(given.filters ?? {}), shown.filters ?? {})];
}

function storedPolygon(given: unknown): Rings | null {
  const found = given ? readPolygon(JSON.stringify(given)) : null;
  return typeof found === "string" ? null : found;
}

/** Create a collection of the marks, named after the search, and open it. */
export async function createCollection(members?: readonly Mark[], name?: string): Promise<CollectionAnswer | null> {
  const { positives, negatives } = store.draft.value;
  const state = store.state.value;
  const marks = [...positives.map((id): Mark => ({ id, mark: "good" })), ...negatives.map((id): Mark => ({ id, mark: "bad" }))];
  const who = whoIs();
  try {
    const made = await store.api.createCollection(
      {
        name: (name ?? titleOf(state)).slice(0, 200),
        members: [...(members ?? marks)],
        ...(members ? {} : { query: requestOf(state) }),
        ...(who ? { who } : {}),
        ...(store.archiveName.value ? { archive: store.archiveName.value } : {}),
      },
      members ? null : await uploaded(),
    );
    show(made);
    store.go({ collection: made.id, ...(made.images?.length ? { query: { kind: "kept", id: made.id } } : {}) });
    store.notify(`Saved as the collection “${made.name}”.`);
    return made;
  } catch (error) {
    store.notify(`The collection could not be saved. ${messageOf(error)}`);
    return null;
  }
}

/** The image of the query, which others can then search with; null for other queries. */
async function uploaded(): Promise<Blob | null> {
  const { query } = store.state.value;
  const picture = store.picture.value;
  return query.kind === "image" && picture?.key === query.key ? sentOf(picture, query.crop) : null;
}

/** Change the open collection; changes are sent one after the other. */
export function change(given: CollectionChange): Promise<void> {
  const id = store.collection.value?.id;
  if (!id) return Promise.resolve();
  const who = whoIs();
  return send(id, () => store.api.changeCollection(id, { ...given, ...(who ? { who } : {}) }));
}

/** Wait until the server has all changes. */
export async function changesSent(): Promise<void> {
  await sending;
}

/** Undo the last change of the open collection's members. */
export function undo(): Promise<void> {
  const known = store.collection.value;
  return known ? send(known.id, () => store.api.undoCollection(known.id, known.revision)) : Promise.resolve();
}

function send(id: string, work: () => Promise<CollectionAnswer>): Promise<void> {
  waiting++;
  const done = sending.then(async () => {
    let failed: unknown = null;
    const answer = await work().catch((error: unknown) => {
      failed = error;
      return null;
    });
    waiting--;
    if (store.collection.value?.id !== id) return;
    if (answer && waiting) store.collection.value = answer;
    else if (answer) show(answer);
    if (!failed) return;
    store.draft.value = marksOf(store.collection.value);
    store.notify(`Not saved. ${messageOf(failed)}`);
  });
  sending = done;
  return done;
}

/** What a collection says of a record. */
export interface Said {
  readonly mark: "good" | "bad" | null;
  readonly note: string | null;
  readonly labels: readonly string[];
}

const NOTHING: Said = { mark: null, note: null, labels: [] };

function saidOf(id: string): Said & { revision: number } {
  const known = store.collection.value?.members.find((one) => one.id === id);
  return known ? { mark: known.mark, note: known.note, labels: known.labels, revision: known.revision } : { ...NOTHING, revision: 0 };
}

/** Return what somebody else changed that `mine` replaces: "the mark", "the note"; empty for nothing. */
export function replaced(before: Said, theirs: Said, mine: Said): string {
  if (theirs.mark !== before.mark && mine.mark !== theirs.mark) return "the mark";
  return theirs.note !== before.note && mine.note !== theirs.note ? "the note" : "";
}

/**
 * Change what the open collection says of some records. Where somebody else changed one of them
 * since it was read, the change is made again on what they said, so that only the same value of the
 * same record can be replaced; the page then says so.
 */
function edit(ids: readonly string[], make: (said: Said) => Said): Promise<void> {
  const id = store.collection.value?.id;
  if (!id) return Promise.resolve();
  const who = whoIs();
  return send(id, async () => {
    const before = new Map(ids.map((one) => [one, saidOf(one)]));
    for (let tries = 0; ; tries++) {
      const members = ids.map((one): Mark => {
        const known = saidOf(one);
        const { mark, note, labels } = make(known);
        return { id: one, mark, note, labels: [...labels], revision: known.revision };
      });
      try {
        return await store.api.changeCollection(id, { members, ...(who ? { who } : {}) });
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 409) || tries === 3) throw error;
        const now = await store.api.collection(id);
        if (store.collection.value?.id !== id) throw error;
        store.collection.value = now;
        for (const one of ids) {
          const what = replaced(before.get(one) ?? NOTHING, saidOf(one), make(saidOf(one)));
          const by = now.members.find((member) => member.id === one)?.who ?? "Somebody else";
          if (what) store.notify(`${by} changed ${what} of ${one} at the same time; yours replaced it. Undo brings it back.`);
        }
      }
    }
  });
}

/** Keep the marks of some records in the open collection. */
export function keepMarks(ids: readonly string[], mark: "good" | "bad" | null): void {
  void edit(ids, (said) => ({ ...said, mark }));
}

/** Give some records a label, or take it from them; a collection is created where none is open. */
export async function giveLabel(ids: readonly string[], label: string, on = true): Promise<void> {
  if (!store.collection.value && !(await createCollection())) return;
  await edit(ids, (said) => {
    const rest = said.labels.filter((one) => one !== label);
    return { ...said, labels: on ? [...rest, label] : rest };
  });
}

/** Keep a note on a record of the open collection. */
export function keepNote(id: string, note: string): Promise<void> {
  return edit([id], (said) => ({ ...said, note: note || null }));
}

export function whoIs(): string {
  try {
    return localStorage.getItem(WHO) ?? "";
  } catch {
    return "";
  }
}

export function setWho(name: string): void {
  try {
    localStorage.setItem(WHO, name.trim().slice(0, 200));
  } catch {
    // Storage is switched off: marks are kept without a name.
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : "The page hit an unexpected error.";
}

/** Return a name as one of a file. */
export function fileName(name: string): string {
  return name.replaceAll(/[^\p{L}\p{N}._-]+/gu, "-").replaceAll(/^-+|-+$/g, "").slice(0, 60) || "landcue";
}
