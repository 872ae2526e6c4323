/**
 * What the page shows, as a value that fits into a URL: reload, back, forward and a shared link all
 * show the same. Whatever a URL holds is checked; what does not fit is left out.
 */

import { polygonText, readPolygonText, type Rings } from "./map/polygon";
import { MODES, type Box, type Mode } from "./names";

/** A region of an image in its own pixels. */
export interface Crop {
  readonly col: number;
  readonly row: number;
  readonly width: number;
  readonly height: number;
}

export type Query =
  | { readonly kind: "none" }
  | { readonly kind: "record"; readonly id: string }
  /** Words, for models that take them. */
  | { readonly kind: "text"; readonly text: string }
  /** The image itself stays in this browser, below its key. */
  | { readonly kind: "image"; readonly key: string; readonly crop: Crop | null }
  /** The images that a collection keeps on the server, by its id. */
  | { readonly kind: "kept"; readonly id: string };

export interface FilterState {
  readonly all: readonly string[];
  readonly any: readonly string[];
  readonly none: readonly string[];
  readonly expression: string;
  readonly scores: readonly (readonly [string, number])[];
  /** First and last day, both included, as YYYY-MM-DD. */
  readonly from: string | null;
  readonly until: string | null;
  readonly groups: readonly string[];
  readonly sensors: readonly string[];
  readonly parts: readonly string[];
  readonly box: Box | null;
  readonly polygon: Rings | null;
}

export type View = "grid" | "both" | "map";

/** First and last day, both included; null for an open end. */
export type Days = readonly [string | null, string | null];

/** A comparison of two dates. */
export interface Comparison {
  readonly before: Days;
  readonly after: Days;
  /** Label expressions of the earlier and of the later record. */
  readonly had: string;
  readonly has: string;
  /** Labels that the later record gained, and lost. */
  readonly gained: readonly string[];
  readonly lost: readonly string[];
  /** Label whose rise or fall ranks pairs; null for how unusual they are alone. */
  readonly by: string | null;
  /** Archive of the later record; null for the same one. */
  readonly other: string | null;
  /** False alarm rate. */
  readonly alpha: number;
}

export interface PageState {
  readonly page: "search" | "changes" | "model";
  /** Null for the server's first one. */
  readonly archive: string | null;
  readonly query: Query;
  readonly positives: readonly string[];
  readonly negatives: readonly string[];
  readonly filters: FilterState;
  readonly mode: Mode;
  /** Hits with a smaller score are left out. */
  readonly least: number | null;
  /** Hits with a smaller percentile, 0 to 100, are left out. */
  readonly percentile: number | null;
  /** Whether near-duplicates count as one hit. */
  readonly collapse: boolean;
  readonly k: number;
  readonly pages: number;
  readonly view: View;
  /** The hit whose details are open. */
  readonly open: string | null;
  /** Another archive in which the same query is searched. */
  readonly beside: string | null;
  /** The collection that marks are kept in. */
  readonly collection: string | null;
  /** What the Changes page compares. */
  readonly compared: Comparison | null;
}

export const NO_FILTERS: FilterState = {
  all: [],
  any: [],
  none: [],
  expression: "",
  scores: [],
  from: null,
  until: null,
  groups: [],
  sensors: [],
  parts: [],
  box: null,
  polygon: null,
};

export const START: PageState = {
  page: "search",
  archive: null,
  query: { kind: "none" },
  positives: [],
  negatives: [],
  filters: NO_FILTERS,
  mode: "auto",
  least: null,
  percentile: null,
  collapse: false,
  k: 24,
  pages: 1,
  view: "grid",
  open: null,
  beside: null,
  collection: null,
  compared: null,
};

export const MOST_HITS = 1000;
export const MOST_MARKS = 100;
const LONGEST_ID = 1024;
const LONGEST_NAME = 200;
const LONGEST_TEXT = 500;
const LONGEST_EXPRESSION = 2000;
/** False alarm rate of changes. */
export const ALPHA = 0.05;
const PAGES = ["search", "changes", "model"] as const;
const PARTS = ["train", "val", "test"];

/** Return the query string of a state, empty for the start. */
export function toQuery(state: PageState): string {
  const out = new URLSearchParams();
  const put = (key: string, value: string | null) => value && out.append(key, value);
  const each = (key: string, values: readonly string[]) => values.forEach((value) => put(key, value));
  const { query, filters } = state;
  if (state.page !== START.page) put("page", state.page);
  put("archive", state.archive);
  if (query.kind === "record") put("id", query.id);
  if (query.kind === "text") put("text", query.text);
  if (query.kind === "kept") put("kept", query.id);
  if (query.kind === "image") {
    put("image", query.key);
    if (query.crop) put("crop", [query.crop.col, query.crop.row, query.crop.width, query.crop.height].join(","));
  }
  each("good", state.positives);
  each("bad", state.negatives);
  each("all", filters.all);
  each("any", filters.any);
  each("none", filters.none);
  put("where", filters.expression);
  for (const [name, least] of filters.scores) put("score", `${least}:${name}`);
  if (filters.from || filters.until) put("datetime", writeInterval([filters.from, filters.until]));
  each("group", filters.groups);
  each("sensor", filters.sensors);
  each("part", filters.parts);
  if (filters.box) put("bbox", filters.box.join(","));
  if (filters.polygon) put("polygon", polygonText(filters.polygon));
  if (state.mode !== START.mode) put("mode", state.mode);
  if (state.least !== null) put("least", String(state.least));
  if (state.percentile !== null) put("percentile", String(state.percentile));
  if (state.collapse) put("near", "once");
  if (state.k !== START.k) put("k", String(state.k));
  if (state.pages !== START.pages) put("pages", String(state.pages));
  if (state.view !== START.view) put("view", state.view);
  put("open", state.open);
  put("beside", state.beside);
  put("collection", state.collection);
  if (state.compared) {
    const { before, after, had, has, gained, lost, by, other, alpha } = state.compared;
    put("before", writeInterval(before));
    put("after", writeInterval(after));
    put("had", had);
    put("has", has);
    each("gained", gained);
    each("lost", lost);
    put("by", by);
    put("other", other);
    if (alpha !== ALPHA) put("alpha", String(alpha));
  }
  const text = out.toString().replaceAll("%2C", ",").replaceAll("%2F", "/").replaceAll("%3A", ":").replaceAll("%3B", ";");
  return text && `?${text}`;
}

/** Return the state that a query string tells. */
export function fromQuery(text: string): PageState {
  const given = new URLSearchParams(text);
  const one = (key: string, longest: number) => bounded(given.get(key), longest);
  const names = (key: string, longest = LONGEST_NAME) => unique(given.getAll(key), longest);
  const k = whole(given.get("k"), 1, MOST_HITS) ?? START.k;
  const mode = given.get("mode");
  const view = given.get("view");
  const positives = names("good", LONGEST_ID);
  // Older addresses have the two days apart.
  const [from, until] = given.has("datetime") ? readInterval(given.get("datetime")!) : [readDate(given.get("from")), readDate(given.get("until"))];
  return {
    page: PAGES.find((page) => page === given.get("page")) ?? START.page,
    archive: one("archive", LONGEST_NAME),
    query: readQuery(given),
    positives,
    negatives: names("bad", LONGEST_ID).filter((id) => !positives.includes(id)),
    filters: {
      all: names("all"),
      any: names("any"),
      none: names("none"),
      expression: one("where", LONGEST_EXPRESSION) ?? "",
      scores: readScores(given.getAll("score")),
      from,
      until,
      groups: names("group"),
      sensors: names("sensor"),
      parts: names("part").filter((part) => PARTS.includes(part)),
      box: readBox(given.get("bbox")),
      polygon: readPolygonText(given.get("polygon")),
    },
    mode: MODES.find((known) => known === mode) ?? START.mode,
    least: readScore(given.get("least")),
    percentile: readPercentile(given.get("percentile")),
    collapse: given.get("near") === "once",
    k,
    pages: whole(given.get("pages"), 1, Math.floor(MOST_HITS / k)) ?? START.pages,
    view: view === "both" || view === "map" ? view : START.view,
    open: one("open", LONGEST_ID),
    beside: one("beside", LONGEST_NAME),
    collection: one("collection", LONGEST_NAME),
    compared: readComparison(given),
  };
}

/** Read west,south,east,north in degrees. */
export function readBox(text: string | null): Box | null {
  const found = (text ?? "").split(",");
  if (found.length !== 4 || found.some((part) => part.trim() === "")) return null;
  const [west, south, east, north] = found.map(Number) as [number, number, number, number];
  const inside = [west, east].every((x) => Math.abs(x) <= 180) && [south, north].every((y) => Math.abs(y) <= 90);
  return inside && south <= north ? [west, south, east, north] : null;
}

/** Read a day that exists, as YYYY-MM-DD. */
export function readDate(text: string | null): string | null {
  if (!text || !/^(19\d\d|2[01]\d\d)-\d\d-\d\d$/.test(text)) return null;
  const date = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text) ? text : null;
}

/** Write days as an interval of STAC, both included, with `..` for an open end. */
export function writeInterval([from, until]: Days): string {
  return `${from ?? ".."}/${until ?? ".."}`;
}

/** Read an interval of STAC as days: a year or month as its first and last one, a time as its day. */
export function readInterval(text: string): Days {
  const [from, until] = text.split("/");
  return [dayOf(from!, false), dayOf(until ?? from!, true)];
}

function dayOf(text: string, last: boolean): string | null {
  const [day] = text.trim().split(/[T ]/i);
  const [year, month = last ? "12" : "01", more] = day!.split("-");
  const end = last ? new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate() : 1;
  return readDate(`${year}-${month}-${more ?? String(end).padStart(2, "0")}`);
}

function readComparison(given: URLSearchParams): Comparison | null {
  if (!given.has("before") && !given.has("after")) return null;
  const names = (key: string) => unique(given.getAll(key), LONGEST_NAME);
  const expression = (key: string) => bounded(given.get(key), LONGEST_EXPRESSION) ?? "";
  const alpha = Number(given.get("alpha") ?? ALPHA);
  return {
    before: readInterval(given.get("before") ?? ""),
    after: readInterval(given.get("after") ?? ""),
    had: expression("had"),
    has: expression("has"),
    gained: names("gained"),
    lost: names("lost"),
    by: bounded(given.get("by"), LONGEST_NAME),
    other: bounded(given.get("other"), LONGEST_NAME),
    alpha: alpha > 0 && alpha <= 1 ? alpha : ALPHA,
  };
}

function readScore(text: string | null): number | null {
  const value = text?.trim() ? Number(text) : NaN;
  return value >= -1000 && value <= 1 ? value : null;
}

/** Read a percentile; none for 0, which leaves nothing out. */
export function readPercentile(text: string | null): number | null {
  const value = text?.trim() ? Number(text) : NaN;
  return value > 0 && value <= 100 ? value : null;
}

function readQuery(given: URLSearchParams): Query {
  const id = bounded(given.get("id"), LONGEST_ID);
  if (id) return { kind: "record", id };
  const text = bounded(given.get("text"), LONGEST_TEXT);
  if (text) return { kind: "text", text };
  const kept = bounded(given.get("kept"), LONGEST_NAME);
  if (kept) return { kind: "kept", id: kept };
  const key = given.get("image");
  if (!key || !/^[0-9a-f]{16}$/.test(key)) return { kind: "none" };
  return { kind: "image", key, crop: readCrop(given.get("crop")) };
}

function readCrop(text: string | null): Crop | null {
  if (!text || !/^\d{1,6}(,\d{1,6}){3}$/.test(text)) return null;
  const [col, row, width, height] = text.split(",").map(Number) as [number, number, number, number];
  return width && height ? { col, row, width, height } : null;
}

function readScores(given: string[]): [string, number][] {
  const found = new Map<string, number>();
  for (const text of given.slice(0, MOST_MARKS)) {
    const at = text.indexOf(":");
    const name = bounded(text.slice(at + 1), LONGEST_NAME);
    const least = at > 0 ? Number(text.slice(0, at)) : NaN;
    if (name && least >= 0 && least <= 1) found.set(name, least);
  }
  return [...found];
}

function whole(text: string | null, least: number, most: number): number | null {
  if (!text || !/^\d{1,6}$/.test(text)) return null;
  return Math.min(most, Math.max(least, Number(text)));
}

function bounded(text: string | null, longest: number): string | null {
  return text && text.length <= longest ? text : null;
}

function unique(given: string[], longest: number): string[] {
  return [...new Set(given.filter((text) => bounded(text, longest)))].slice(0, MOST_MARKS);
}
