// @vitest-environment happy-dom
import { beforeEach, describe, expect, it, vi } from "vitest";
import type { Hit, SearchRequest } from "../src/types";

/** A service of one archive: what it was asked, and how it answers searches. */
class Service {
  readonly asked: SearchRequest[] = [];
  stale = false;
  answer: (request: SearchRequest) => Promise<Response> | Response = (request) => hits(["a", "b", "c"], request);

  readonly fetch = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    const path = new URL(String(input), "http://x/").pathname;
    if (path === "/v1/archive") return json({ name: "places", records: 9, archives: ["places", "other"], label_names: [], stale: this.stale });
    if (path === "/v1/labels") return json({ archive: "places", labels: [] });
    if (path === "/v1/facets") return json({ modes: ["auto", "embedding", "code"], groups: [], examples: [] });
    if (path.startsWith("/v1/records/")) return json({ predicted_labels: ["water"] });
    const body = init.body instanceof FormData ? String(init.body.get("request")) : String(init.body);
    const request = JSON.parse(body) as SearchRequest;
    this.asked.push(request);
    const answer = await this.answer(request);
    if (init.signal?.aborted) throw new DOMException("gone", "AbortError");
    return answer;
  };
}

function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers });
}

function hits(ids: string[], request: SearchRequest, cursor: string | null = null): Response {
  const made = ids.map((id): Partial<Hit> => ({ id, distance: 0.1, score: 0.9, labels: [], shared: [] }));
  const mode = request.mode ?? "embedding";
  const plan = { mode, milliseconds: 1.5, allowed: 9, records: 9, recall: null };
  return json({ hits: made, labels: ["sea"], mode, cursor, note: null, plan });
}

async function opened(url: string) {
  history.replaceState(null, "", url);
  vi.resetModules();
  const service = new Service();
  vi.stubGlobal("fetch", service.fetch);
  const store = await import("../src/store");
  const run = await import("../src/search/run");
  const ids = () => store.found.value?.hits.map((hit) => hit.id);
  return { service, store, run, ids };
}

const settled = (wanted: () => void) => vi.waitFor(wanted, { timeout: 3000, interval: 5 });

beforeEach(() => {
  localStorage.clear();
  sessionStorage.clear();
});

describe("following the state", () => {
  it("asks nothing at the start", async () => {
    const { service, store, run } = await opened("/");
    run.follow();
    await settled(() => expect(store.about.value?.name).toBe("places"));
    expect(store.phase.value).toBe("idle");
    expect(service.asked).toEqual([]);
  });

  it("learns within a minute that the archive was indexed again", async () => {
    vi.useFakeTimers({ toFake: ["setInterval"] });
    const { service, store, run } = await opened("/");
    run.follow();
    await settled(() => expect(store.about.value?.stale).toBe(false));
    service.stale = true;
    vi.advanceTimersByTime(60_000);
    vi.useRealTimers();
    await settled(() => expect(store.about.value?.stale).toBe(true));
  });

  it("searches for what a URL says, and remembers it", async () => {
    const { service, store, run, ids } = await opened("/?id=port/1&mode=code&k=12");
    run.follow();
    await settled(() => expect(ids()).toEqual(["a", "b", "c"]));
    expect(service.asked).toEqual([{ id: "port/1", mode: "code", k: 12, predicted: true }]);
    expect(store.found.value?.predicted).toEqual(["water"]);
    expect(store.latencies.value.get("code")).toBe(1.5);
    const { past } = await import("../src/search/remember");
    expect(past.value.map((visit) => visit.url)).toEqual(["?id=port/1&mode=code&k=12"]);
  });

  it("shows the answer to the last question, whichever comes first", async () => {
    const { service, store, run, ids } = await opened("/?id=slow");
    let release = () => {};
    service.answer = (request) => {
      if (request.id !== "slow") return hits(["new"], request);
      return new Promise((done) => (release = () => done(hits(["old"], request))));
    };
    run.follow();
    await settled(() => expect(service.asked).toHaveLength(1));
    run.askRecord("fast");
    await settled(() => expect(ids()).toEqual(["new"]));
    release();
    await new Promise((done) => setTimeout(done, 20));
    expect(ids()).toEqual(["new"]);
    expect(store.phase.value).toBe("done");
  });

  it("goes back to the search before", async () => {
    const { store, run, ids, service } = await opened("/?id=one");
    service.answer = (request) => hits([`of ${request.id}`], request);
    run.follow();
    await settled(() => expect(ids()).toEqual(["of one"]));
    run.askRecord("two");
    await settled(() => expect(ids()).toEqual(["of two"]));
    expect(location.search).toBe("?id=two");
    history.replaceState(null, "", "/?id=one");
    dispatchEvent(new PopStateEvent("popstate"));
    await settled(() => expect(ids()).toEqual(["of one"]));
    expect(store.state.value.query).toEqual({ kind: "record", id: "one" });
  });

  it("says that an image is wanted, and asks nothing", async () => {
    const { service, store, run } = await opened("/?image=0123456789abcdef&all=water");
    run.follow();
    await settled(() => expect(store.phase.value).toBe("query-image-needed"));
    expect(service.asked).toEqual([]);
  });

  it("tells what the server refuses, and when to come back", async () => {
    const { service, store, run, ids } = await opened("/?id=one");
    service.answer = () => json({ detail: "too many requests" }, 429, { "Retry-After": "3" });
    run.follow();
    await settled(() => expect(store.phase.value).toBe("failed"));
    expect(store.searchError.value).toMatchObject({ status: 429, retryAfter: 3 });
    service.answer = (request) => hits(["a"], request);
    await run.search();
    expect(ids()).toEqual(["a"]);
    expect(store.searchError.value).toBeNull();
  });
});

describe("refining", () => {
  it("asks with the marks, and keeps the ranking before", async () => {
    const { service, store, run, ids } = await opened("/?id=one");
    run.follow();
    await settled(() => expect(ids()).toEqual(["a", "b", "c"]));
    store.draft.value = { positives: ["a"], negatives: ["c"] };
    expect(store.pendingMarks.value).toBe(true);
    service.answer = (request) => hits(["b", "d"], request);
    run.refine();
    await settled(() => expect(ids()).toEqual(["b", "d"]));
    expect(service.asked[1]).toMatchObject({ id: "one", positives: ["a"], negatives: ["c"] });
    expect(store.before.value?.hits.map((hit) => hit.id)).toEqual(["a", "b", "c"]);
    expect(store.before.value?.change).toBe("refining with your marks");
    expect(store.pendingMarks.value).toBe(false);
    expect(location.search).toBe("?id=one&good=a&bad=c");
  });

  it("compares nothing with another example", async () => {
    const { store, run, ids } = await opened("/?id=one");
    run.follow();
    await settled(() => expect(ids()).toHaveLength(3));
    run.askRecord("two");
    await settled(() => expect(store.state.value.query).toEqual({ kind: "record", id: "two" }));
    await settled(() => expect(store.phase.value).toBe("done"));
    expect(store.before.value).toBeNull();
  });

  it("refuses bad marks alone where nothing is asked with", async () => {
    const { service, store, run, ids } = await opened("/?all=water");
    run.follow();
    await settled(() => expect(ids()).toHaveLength(3));
    store.draft.value = { positives: [], negatives: ["a"] };
    run.refine();
    expect(store.toast.value).toContain("at least one");
    expect(service.asked).toHaveLength(1);
  });
});

describe("further pages", () => {
  it("come after those shown, and a reload asks for all of them", async () => {
    const { service, store, run, ids } = await opened("/?id=one&k=2");
    service.answer = (request) => hits(request.cursor ? ["c", "d"] : ["a", "b"], request, request.cursor ? null : "next");
    run.follow();
    await settled(() => expect(ids()).toEqual(["a", "b"]));
    await run.more();
    expect(ids()).toEqual(["a", "b", "c", "d"]);
    expect(service.asked[1]).toMatchObject({ k: 2, cursor: "next" });
    expect(location.search).toBe("?id=one&k=2&pages=2");
    await run.more();
    expect(service.asked).toHaveLength(2);

    const again = await opened(`/${location.search}`);
    again.run.follow();
    await settled(() => expect(again.service.asked).toHaveLength(1));
    expect(again.service.asked[0]?.k).toBe(4);
    expect(store.found.value?.cursor).toBeNull();
  });
});
