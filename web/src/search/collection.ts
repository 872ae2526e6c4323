/** The open collection: marks, notes and labels that the server keeps, for everybody who opens its link. */

import { effect, untracked } from "@preact/signals";
import { ApiError } from "../api";
import * as store from "../store";
import { NO_FILTERS, readBox, START } from "../state";
import type { CollectionAnswer, CollectionChange, Mark, SearchRequest } from "../types";
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
    store.notify(`The collection cannot be opened: ${messageOf(error)}`);
  }
}

function show(found: CollectionAnswer): void {
  if (JSON.stringify(found) === JSON.stringify(store.collection.value)) return;
  store.collection.value = found;
  store.draft.value = marksOf(found);
}

/** Show a collection from the list: its search, with its marks. */
export function openCollection(found: CollectionAnswer): void {
  const query = found.query as SearchRequest | null;
  const asked = query?.filters;
  const marks = marksOf(found);
  store.collection.value = found;
  store.ask({
    ...START,
    archive: store.state.value.archive,
    view: store.state.value.view,
    query: query?.id ? { kind: "record", id: query.id } : query?.text ? { kind: "text", text: query.text } : { kind: "none" },
    mode: query?.mode ?? START.mode,
    filters: {
      ...NO_FILTERS,
      expression: asked?.labels ?? "",
      scores: Object.entries(asked?.scores ?? {}),
      groups: asked?.groups ?? [],
      sensors: asked?.sensors ?? [],
      parts: asked?.parts ?? [],
      box: readBox((asked?.bbox ?? []).join(",")),
    },
    ...(marks.positives.length || query?.id ? marks : NO_MARKS),
    collection: found.id,
  });
  store.draft.value = marks;
}

/** Create a collection of the marks, named after the search, and open it. */
export async function createCollection(members?: readonly Mark[], name?: string): Promise<CollectionAnswer | null> {
  const { positives, negatives } = store.draft.value;
  const state = store.state.value;
  const marks = [...positives.map((id): Mark => ({ id, mark: "good" })), ...negatives.map((id): Mark => ({ id, mark: "bad" }))];
  const who = whoIs();
  try {
    const made = await store.api.createCollection({
      name: (name ?? titleOf(state)).slice(0, 200),
      members: [...(members ?? marks)],
      ...(state.query.kind === "image" ? {} : { query: requestOf(state) }),
      ...(who ? { who } : {}),
      ...(store.archiveName.value ? { archive: store.archiveName.value } : {}),
    });
    show(made);
    store.go({ collection: made.id });
    store.notify(`Saved as the collection “${made.name}”.`);
    return made;
  } catch (error) {
    store.notify(`The collection could not be saved: ${messageOf(error)}`);
    return null;
  }
}

/** Change the open collection; changes are sent one after the other. */
export function change(given: CollectionChange): Promise<void> {
  const id = store.collection.value?.id;
  if (!id) return Promise.resolve();
  const who = whoIs();
  return send(id, () => store.api.changeCollection(id, { ...given, ...(who ? { who } : {}) }));
}

/** Undo the last change of the open collection's members. */
export function undo(): Promise<void> {
  const id = store.collection.value?.id;
  return id ? send(id, () => store.api.undoCollection(id)) : Promise.resolve();
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
    store.notify(`Not saved: ${messageOf(failed)}`);
  });
  sending = done;
  return done;
}

/** Return what a collection says of a record, as a change that keeps it. */
function memberOf(id: string): Mark {
  const known = store.collection.value?.members.find((one) => one.id === id);
  return { id, mark: known?.mark ?? null, note: known?.note ?? null, labels: [...(known?.labels ?? [])] };
}

/** Keep the marks of some records in the open collection. */
export function keepMarks(ids: readonly string[], mark: "good" | "bad" | null): void {
  if (store.collection.value) void change({ members: ids.map((id) => ({ ...memberOf(id), mark })) });
}

/** Give some records a label, or take it from them; a collection is created where none is open. */
export async function giveLabel(ids: readonly string[], label: string, on = true): Promise<void> {
  if (!store.collection.value && !(await createCollection())) return;
  const members = ids.map((id) => {
    const known = memberOf(id);
    const rest = (known.labels ?? []).filter((one) => one !== label);
    return { ...known, labels: on ? [...rest, label] : rest };
  });
  await change({ members });
}

/** Keep a note on a record of the open collection. */
export function keepNote(id: string, note: string): Promise<void> {
  return change({ members: [{ ...memberOf(id), note: note || null }] });
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
  return error instanceof Error ? error.message : "unexpected error";
}

/** Return a name as one of a file. */
export function fileName(name: string): string {
  return name.replaceAll(/[^\p{L}\p{N}._-]+/gu, "-").replaceAll(/^-+|-+$/g, "").slice(0, 60) || "landcue";
}
