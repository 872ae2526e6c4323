import { describe, expect, it, vi } from "vitest";
import { Api, ApiError, idPath, problemOf, retrySeconds, type TokenStore } from "../src/api";

function tokens(value = ""): TokenStore {
  let kept = value;
  return { get: () => kept, set: (token) => (kept = token) };
}

function answering(status: number, body: unknown, headers: Record<string, string> = {}) {
  return vi.fn<typeof fetch>(async () => new Response(JSON.stringify(body), { status, headers }));
}

describe("idPath", () => {
  it("keeps slashes and escapes the rest", () => {
    expect(idPath("port/a b?#%.png")).toBe("port/a%20b%3F%23%25.png");
  });
  it("does not let a browser fold dots", () => {
    const url = new URL(`./v1/records/${idPath("a/../../secret")}/chip`, "http://x/");
    expect(decodeURIComponent(url.pathname)).toBe("/v1/records/a/../../secret/chip");
  });
});

describe("retrySeconds", () => {
  it.each([
    ["3", 3],
    ["0.2", 1],
    ["-5", 0],
    ["", null],
    [null, null],
    ["soon", null],
  ])("reads %s", (value, seconds) => expect(retrySeconds(value)).toBe(seconds));
  it("reads a date", () => {
    const now = Date.parse("2026-01-01T00:00:00Z");
    expect(retrySeconds("Thu, 01 Jan 2026 00:00:07 GMT", now)).toBe(7);
  });
});

describe("Api", () => {
  it("sends the token with each request, and none when there is none", async () => {
    const send = answering(200, { labels: [] });
    const store = tokens();
    const api = new Api(store, ".", send);
    await api.labels("a b");
    expect(send.mock.calls[0]?.[0]).toBe("./v1/labels?archive=a+b");
    expect(new Headers(send.mock.calls[0]?.[1]?.headers).has("Authorization")).toBe(false);
    api.setToken("  secret ");
    await api.labels(null);
    expect(new Headers(send.mock.calls[1]?.[1]?.headers).get("Authorization")).toBe("Bearer secret");
  });

  it("sends JSON without an image, and a form with one", async () => {
    const send = answering(200, { hits: [] });
    const api = new Api(tokens(), ".", send);
    await api.search({ id: "x", k: 5 }, null);
    expect(JSON.parse(String(send.mock.calls[0]?.[1]?.body))).toEqual({ id: "x", k: 5 });
    await api.search({ k: 5 }, new Blob(["png"], { type: "image/png" }));
    const form = send.mock.calls[1]?.[1]?.body;
    expect(form).toBeInstanceOf(FormData);
    expect((form as FormData).get("request")).toBe('{"k":5}');
    expect((form as FormData).get("image")).toBeInstanceOf(Blob);
  });

  it("throws what problem details say, with the time to wait", async () => {
    const api = new Api(tokens(), ".", answering(429, { detail: "too many requests" }, { "Retry-After": "4" }));
    await expect(api.about(null)).rejects.toMatchObject({ status: 429, message: "Too many requests.", retryAfter: 4 });
  });

  it.each([
    ["no archive is called 'x'", "No archive is called 'x'."],
    ["Unknown field 'kk' (did you mean 'k'?)", "Unknown field 'kk' (did you mean 'k'?)."],
    ["photos/a.png: not an image", "photos/a.png: not an image."],
    ["'x' holds no ids", "'x' holds no ids."],
    ["min_score 2: use 0 to 1", "min_score 2: use 0 to 1."],
  ])("says “%s” as a sentence", async (detail, message) => {
    const api = new Api(tokens(), ".", answering(400, { detail }));
    await expect(api.about(null)).rejects.toMatchObject({ message });
  });

  it("tells that the server is away", async () => {
    const api = new Api(tokens(), ".", async () => {
      throw new TypeError("Failed to fetch");
    });
    const error = await api.about(null).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).away).toBe(true);
  });

  it("lets an abort through as such", async () => {
    const api = new Api(tokens(), ".", async () => {
      throw new DOMException("gone", "AbortError");
    });
    await expect(api.about(null)).rejects.toMatchObject({ name: "AbortError" });
  });

  it("does not show pages of proxies", async () => {
    const error = await problemOf(new Response("<html>nginx</html>", { status: 502 }));
    expect(error.message).toBe("The server answered with status 502.");
  });
});
