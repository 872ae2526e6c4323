/** Convert the page's state to a search request. */

import type { FilterState, PageState } from "../state";
import { MOST_HITS, writeInterval } from "../state";
import type { Filters, SearchRequest, SuggestRequest } from "../types";
import type { Marks } from "./marks";

/** Records whose embeddings are at most so far apart are near-duplicates. */
const NEAR = 0.02;
/** Marks that a request can hold. */
const MOST_MARKS = 100;

/** Write a label name as label expressions take it: quoted where it would not be read as one. */
export function quoted(name: string): string {
  const plain = /^[^\s(),"'][^\s(),]*$/.test(name) && !/^(and|or|not)$/i.test(name);
  return plain ? name : `"${name.replaceAll('"', '""')}"`;
}

/** Join label chips and the expression box into one label expression; empty for none. */
export function expressionOf(filters: FilterState): string {
  const own = filters.expression.trim();
  const parts = filters.all.map(quoted);
  const any = filters.any.map(quoted);
  if (any.length) parts.push(any.length === 1 ? any[0]! : `(${any.join(" or ")})`);
  parts.push(...filters.none.map((name) => `not ${quoted(name)}`));
  if (!parts.length) return own;
  if (own) parts.push(`(${own})`);
  return parts.join(" and ");
}

/** Return the filters of a request, without those that are not set. */
export function filtersOf(filters: FilterState): Filters {
  const out: Filters = {};
  const labels = expressionOf(filters);
  if (labels) out.labels = labels;
  if (filters.scores.length) out.scores = Object.fromEntries(filters.scores);
  if (filters.box) out.bbox = [...filters.box];
  if (filters.polygon) out.polygon = { type: "Polygon", coordinates: filters.polygon };
  if (filters.from || filters.until) out.datetime = writeInterval([filters.from, filters.until]);
  if (filters.groups.length) out.groups = [...filters.groups];
  if (filters.sensors.length) out.sensors = [...filters.sensors];
  if (filters.parts.length) out.parts = filters.parts.filter((part) => part === "train" || part === "val" || part === "test");
  return out;
}

export function hasFilters(filters: FilterState): boolean {
  return Object.keys(filtersOf(filters)).length > 0;
}

/** Whether there is an example to compare records with. */
export function hasExample(state: PageState): boolean {
  return state.query.kind !== "none" || state.positives.length > 0;
}

/** Whether there is anything to search for. */
export function isSearch(state: PageState): boolean {
  return hasExample(state) || hasFilters(state.filters);
}

/** Whether records are listed without a query, to show them on the map. */
export function isBrowsing(state: PageState): boolean {
  return !isSearch(state) && state.view !== "grid";
}

/** Return the request of a state; an uploaded image travels beside it. */
export function requestOf(state: PageState): SearchRequest {
  const filters = filtersOf(state.filters);
  const out: SearchRequest = { k: Math.min(MOST_HITS, state.k * state.pages), predicted: true };
  if (state.archive) out.archive = state.archive;
  if (state.query.kind === "record") out.id = state.query.id;
  if (state.query.kind === "text") out.text = state.query.text;
  if (state.query.kind === "kept") out.images_of = state.query.id;
  if (state.positives.length) out.positives = [...state.positives];
  // Without anything to come near to there is nothing to keep away from.
  if (state.negatives.length && hasExample(state)) out.negatives = [...state.negatives];
  if (state.least !== null && hasExample(state)) out.min_score = state.least;
  if (state.percentile !== null && hasExample(state)) out.min_percentile = state.percentile;
  if (state.collapse && hasExample(state)) out.collapse = NEAR;
  if (Object.keys(filters).length) out.filters = filters;
  if (state.mode !== "auto" && hasExample(state)) out.mode = state.mode;
  return out;
}

/** Return the request for records to mark next; the query record counts as marked good. */
export function suggestRequestOf(state: PageState, marks: Marks, collection: string | null, label: string | null): SuggestRequest {
  const query = state.query.kind === "record" && !marks.negatives.includes(state.query.id) ? [state.query.id] : [];
  const filters = filtersOf(state.filters);
  const out: SuggestRequest = { k: Math.min(MOST_HITS, state.k) };
  if (state.archive) out.archive = state.archive;
  if (collection) out.collection = collection;
  if (label) out.label = label;
  else {
    const positives = [...new Set([...query, ...marks.positives.slice(query.length - MOST_MARKS)])];
    if (positives.length) out.positives = positives;
    if (marks.negatives.length) out.negatives = [...marks.negatives];
  }
  if (Object.keys(filters).length) out.filters = filters;
  return out;
}

/** Two states with the same key have the same hits. */
export function searchKey(state: PageState): string {
  const { k: _, ...request } = requestOf(state);
  const image = state.query.kind === "image" ? [state.query.key, state.query.crop] : null;
  return JSON.stringify([request, image, state.k, isBrowsing(state)]);
}

/** Two states with the same key ask for the same example, however they rank and filter. */
export function exampleKey(state: PageState): string {
  return JSON.stringify([state.archive, state.query]);
}

/** Return the day after a day. */
export function nextDay(day: string): string {
  return addDays(day, 1);
}

/** Return the day before a day. */
export function dayBefore(day: string): string {
  return addDays(day, -1);
}

function addDays(day: string, n: number): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + n * 86_400_000).toISOString().slice(0, 10);
}
