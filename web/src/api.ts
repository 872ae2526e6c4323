/** A typed client of the REST API. It throws {@link ApiError} and nothing else. */

import { sentence } from "./search/why";
import type { RegionsAnswer } from "./types";
import type { MapAnswer, ModelAnswer, OwnScoresAnswer, PlacesAnswer, ScoresAnswer } from "./types";
import type { Box, ExportFormat } from "./names";
import type { ChangeAnswer, ChangeRequest, CollectionAnswer, CollectionChange, CollectionRequest, CollectionsAnswer, ImportAnswer } from "./types";
import type { ArchiveAnswer, FacetsAnswer, FeedAnswer, LabelCount, Problem, RecordAnswer, SearchAnswer, SearchRequest, SuggestRequest, TimelineAnswer, WatchesAnswer, WatchHitsAnswer, WatchRequest } from "./types";

/** Why a request got no answer: status 0 when the server could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    detail: string,
    /** Seconds after which trying again helps; null when the server did not say. */
    readonly retryAfter: number | null = null,
  ) {
    super(detail);
    this.name = "ApiError";
  }

  get away(): boolean {
    return this.status === 0;
  }
}

const TOKEN_KEY = "landcue.token";

export interface TokenStore {
  get(): string;
  set(token: string): void;
}

/** The token of this tab, forgotten when it closes. */
export const sessionToken: TokenStore = {
  get: () => {
    try {
      return sessionStorage.getItem(TOKEN_KEY) ?? "";
    } catch {
      return "";
    }
  },
  set: (token) => {
    try {
      if (token) sessionStorage.setItem(TOKEN_KEY, token);
      else sessionStorage.removeItem(TOKEN_KEY);
    } catch {
      // Storage is switched off: the token then lasts for this call only.
    }
  },
};

/**
 * Return a record id as part of a path. Its slashes stay, but for an id with steps such as `..`,
 * which a browser would interpret as folders.
 */
export function idPath(id: string): string {
  const parts = id.split("/");
  if (parts.includes(".") || parts.includes("..")) return encodeURIComponent(id);
  return parts.map(encodeURIComponent).join("/");
}

/** Read seconds, or an HTTP date, of a Retry-After header. */
export function retrySeconds(value: string | null, now: number = Date.now()): number | null {
  if (value === null || value.trim() === "") return null;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, Math.ceil(seconds));
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, Math.ceil((date - now) / 1000));
}

export class Api {
  constructor(
    private readonly token: TokenStore = sessionToken,
    private readonly base: string = ".",
    private readonly send: typeof fetch = (...given) => fetch(...given),
  ) {}

  get hasToken(): boolean {
    return this.token.get() !== "";
  }

  setToken(token: string): void {
    this.token.set(token.trim());
  }

  about(archive: string | null, signal?: AbortSignal): Promise<ArchiveAnswer> {
    return this.json(`/v1/archive${query({ archive })}`, signal);
  }

  async labels(archive: string | null, signal?: AbortSignal): Promise<LabelCount[]> {
    const answer = await this.json<{ labels: LabelCount[] }>(`/v1/labels${query({ archive })}`, signal);
    return answer.labels;
  }

  facets(archive: string | null, signal?: AbortSignal): Promise<FacetsAnswer> {
    return this.json(`/v1/facets${query({ archive })}`, signal);
  }

  record(id: string, archive: string | null, signal?: AbortSignal): Promise<RecordAnswer> {
    return this.json(`/v1/records/${idPath(id)}${query({ archive })}`, signal);
  }

  thumbnailUrl(id: string, archive: string | null): string {
    return `${this.base}/v1/records/${idPath(id)}/thumbnail${query({ archive })}`;
  }

  chipUrl(id: string, archive: string | null, side = 512): string {
    return `${this.base}/v1/records/${idPath(id)}/chip${query({ archive, side: String(side) })}`;
  }

  /** Fetch an image that a plain `<img>` could not: with the token. */
  async image(url: string, signal?: AbortSignal): Promise<Blob> {
    return (await this.fetched(url, signal ? { signal } : {})).blob();
  }

  model(archive: string | null, signal?: AbortSignal): Promise<ModelAnswer> {
    return this.json(`/v1/model${query({ archive })}`, signal);
  }

  modelScores(archive: string | null, signal?: AbortSignal): Promise<OwnScoresAnswer> {
    return this.json(`/v1/model/scores${query({ archive })}`, signal);
  }

  modelMap(archive: string | null, signal?: AbortSignal): Promise<MapAnswer> {
    return this.json(`/v1/model/map${query({ archive })}`, signal);
  }

  /** Regions in which a record and the query are similar. */
  regions(id: string, request: SearchRequest, image: Blob | null, signal?: AbortSignal): Promise<RegionsAnswer> {
    return this.json(`/v1/records/${idPath(id)}/regions`, signal, searchBody(request, image));
  }

  search(request: SearchRequest, image: Blob | null, signal?: AbortSignal): Promise<SearchAnswer> {
    return this.json("/v1/search", signal, searchBody(request, image));
  }

  /** How the scores of all records that match a search are distributed. */
  scores(request: SearchRequest, image: Blob | null, bins: number, signal?: AbortSignal): Promise<ScoresAnswer> {
    return this.json(`/v1/scores${query({ bins: String(bins) })}`, signal, searchBody(request, image));
  }

  /** All records of a search within a box: clusters with counts, or single footprints. */
  places(
    request: SearchRequest,
    image: Blob | null,
    view: { box: Box; zoom: number; label: string | null },
    signal?: AbortSignal,
  ): Promise<PlacesAnswer> {
    const asked = query({ bbox: view.box.join(","), zoom: String(view.zoom), label: view.label });
    return this.json(`/v1/map${asked}`, signal, searchBody(request, image));
  }

  /** An uploaded raster as the model sees it: PNG, and its size before that. */
  async rendered(archive: string | null, image: Blob, bands: string, scale: string): Promise<{ blob: Blob; width: number; height: number }> {
    const asked = query({ bands: bands || null, scale: scale || null });
    const answer = await this.fetched(`${this.base}/v1/picture${asked}`, searchBody(archive ? { archive } : {}, image));
    const [width = 0, height = 0] = (answer.headers.get("X-Image-Size") ?? "").split(",").map(Number);
    return { blob: await answer.blob(), width, height };
  }

  /** Headers of a request that something else makes, such as the map for its images. */
  headers(): Record<string, string> {
    const token = this.token.get();
    return token ? { Authorization: `Bearer ${token}` } : {};
  }

  /** All dates of a record's place. */
  timeline(id: string, archive: string | null, signal?: AbortSignal): Promise<TimelineAnswer> {
    return this.json(`/v1/records/${idPath(id)}/timeline${query({ archive })}`, signal);
  }

  /** Pairs of one place at two dates, the most unusual first. */
  change(request: ChangeRequest, signal?: AbortSignal): Promise<ChangeAnswer> {
    return this.json("/v1/change", signal, jsonBody(request));
  }

  async exportedChange(request: ChangeRequest, format: ExportFormat): Promise<{ blob: Blob; rows: number }> {
    const answer = await this.fetched(`${this.base}/v1/change/export${query({ request: JSON.stringify(request), format })}`, {});
    return { blob: await answer.blob(), rows: Number(answer.headers.get("X-Row-Count")) };
  }

  watches(archive: string): Promise<WatchesAnswer> {
    return this.json(`/v1/watches${query({ archive })}`);
  }

  /** Save a search, which is run on new records. */
  saveWatch(given: WatchRequest): Promise<WatchesAnswer> {
    return this.json("/v1/watches", undefined, jsonBody(given));
  }

  removeWatch(name: string, archive: string): Promise<WatchesAnswer> {
    return this.json(`/v1/watches/${encodeURIComponent(name)}${query({ archive })}`, undefined, { method: "DELETE" });
  }

  /** Hits of saved searches with a larger number, the earliest first. */
  watchHits(archive: string, after: number, most: number): Promise<WatchHitsAnswer> {
    return this.json(`/v1/watches/hits${query({ archive, after: String(after), most: String(most) })}`);
  }

  /** Create the address at which a feed reader finds the hits of a saved search; the former one ends. */
  newFeed(name: string, archive: string): Promise<FeedAnswer> {
    return this.json(`/v1/watches/${encodeURIComponent(name)}/feed${query({ archive })}`, undefined, { method: "POST" });
  }

  feedUrl(archive: string): string {
    return `${this.base}/v1/watches/hits${query({ archive, format: "atom" })}`;
  }

  /** Records to mark next. */
  suggest(request: SuggestRequest, signal?: AbortSignal): Promise<SearchAnswer> {
    return this.json("/v1/suggest", signal, jsonBody(request));
  }

  /** The result of a search as a file: a page of it, or all records that pass. */
  async exported(request: SearchRequest, image: Blob | null, format: ExportFormat, all: boolean): Promise<{ blob: Blob; rows: number }> {
    const answer = await this.fetched(`${this.base}/v1/export${query({ format, all: String(all) })}`, searchBody(request, image));
    return { blob: await answer.blob(), rows: Number(answer.headers.get("X-Row-Count")) };
  }

  collections(archive: string | null, signal?: AbortSignal): Promise<CollectionsAnswer> {
    return this.json(`/v1/collections${query({ archive })}`, signal);
  }

  collection(id: string, signal?: AbortSignal): Promise<CollectionAnswer> {
    return this.json(`/v1/collections/${encodeURIComponent(id)}`, signal);
  }

  /** Create a collection; the image of its query is kept with it. */
  createCollection(given: CollectionRequest, image: Blob | null = null): Promise<CollectionAnswer> {
    return this.json("/v1/collections", undefined, searchBody(given, image));
  }

  keptImageUrl(id: string): string {
    return `${this.base}/v1/collections/${encodeURIComponent(id)}/images/0`;
  }

  changeCollection(id: string, given: CollectionChange): Promise<CollectionAnswer> {
    return this.json(`/v1/collections/${encodeURIComponent(id)}`, undefined, jsonBody(given));
  }

  undoCollection(id: string, revision: number): Promise<CollectionAnswer> {
    return this.json(`/v1/collections/${encodeURIComponent(id)}/undo${query({ revision: String(revision) })}`, undefined, { method: "POST" });
  }

  deleteCollection(id: string): Promise<CollectionAnswer> {
    return this.json(`/v1/collections/${encodeURIComponent(id)}`, undefined, { method: "DELETE" });
  }

  /** The collection with its query's images and saved searches, as a file. */
  async exportedCollection(id: string): Promise<Blob> {
    return (await this.fetched(`${this.base}/v1/collections/${encodeURIComponent(id)}/export`, {})).blob();
  }

  importCollection(file: string, archive: string | null): Promise<ImportAnswer> {
    return this.json(`/v1/collections/import${query({ archive })}`, undefined, { method: "POST", body: file, headers: { "Content-Type": "application/json" } });
  }

  async collectionLabels(id: string): Promise<Blob> {
    return (await this.fetched(`${this.base}/v1/collections/${encodeURIComponent(id)}/labels`, {})).blob();
  }

  private async json<T>(path: string, signal?: AbortSignal, init: RequestInit = {}): Promise<T> {
    const answer = await this.fetched(this.base + path, signal ? { ...init, signal } : init);
    try {
      return (await answer.json()) as T;
    } catch {
      throw new ApiError(answer.status, "The server did not answer with JSON. Is this a LandCue server?");
    }
  }

  private async fetched(url: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    const token = this.token.get();
    if (token) headers.set("Authorization", `Bearer ${token}`);
    let answer: Response;
    try {
      answer = await this.send(url, { ...init, headers });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(0, "The server is not responding.");
    }
    if (!answer.ok) throw await problemOf(answer);
    return answer;
  }
}

/** Read the problem details of an answer as a sentence; whatever came instead of them is not shown. */
export async function problemOf(answer: Response): Promise<ApiError> {
  let detail = "";
  try {
    const found = (await answer.json()) as Partial<Problem>;
    if (typeof found.detail === "string") detail = found.detail;
  } catch {
    // Something in between answered, with a page of its own.
  }
  const wait = retrySeconds(answer.headers.get("Retry-After"));
  return new ApiError(answer.status, detail ? sentence(detail) : `The server answered with status ${answer.status}.`, wait);
}

function query(given: Record<string, string | null>): string {
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries(given)) if (value !== null) found.set(key, value);
  const text = found.toString();
  return text && `?${text}`;
}

function jsonBody(value: unknown): RequestInit {
  return { method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" } };
}

function searchBody(request: SearchRequest | CollectionRequest, image: Blob | null): RequestInit {
  if (image === null) return jsonBody(request);
  const form = new FormData();
  form.set("request", JSON.stringify(request));
  form.set("image", image, "query");
  return { method: "POST", body: form };
}
