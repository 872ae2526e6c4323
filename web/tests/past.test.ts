import { describe, expect, it } from "vitest";
import { hashBytes } from "../src/images";
import { MOST_VISITS, readPast, visited, writePast, type Visit } from "../src/search/past";

function visit(url: string, at = 0): Visit {
  return { url, title: url, at, thumb: null, archive: "a" };
}

describe("searches made before", () => {
  it("stand newest first, each once", () => {
    const past = ["?id=a", "?id=b", "?id=a"].reduce<Visit[]>((all, url, at) => visited(all, visit(url, at)), []);
    expect(past.map((one) => one.url)).toEqual(["?id=a", "?id=b"]);
    expect(past[0]?.at).toBe(2);
  });
  it("are bounded in number", () => {
    const past = Array.from({ length: 99 }, (_, at) => visit(`?id=${at}`)).reduce(visited, [] as Visit[]);
    expect(past).toHaveLength(MOST_VISITS);
    expect(past[0]?.url).toBe("?id=98");
  });
  it("come back from storage", () => {
    const past = [visit("?id=a", 5), { ...visit(""), thumb: "x" }];
    expect(readPast(writePast(past))).toEqual(past);
  });
  it.each([null, "", "{", "3", '{"url":"?"}', '[{"url":"?id=a"}]', "[null, 3]"])("are none for %s", (text) => {
    expect(readPast(text)).toEqual([]);
  });
  it("never lead to other sites", () => {
    const bad = ["javascript:alert(1)", "//evil.example", "https://evil.example", "/other"].map((url) => visit(url));
    expect(readPast(JSON.stringify([...bad, visit("?id=a")])).map((one) => one.url)).toEqual(["?id=a"]);
  });
});

describe("hashBytes", () => {
  it("gives 16 hex digits that differ with each byte, place and length", () => {
    const made = [[], [0], [0, 0], [1, 2], [2, 1], [255], [1, 2, 3]].map((bytes) => hashBytes(new Uint8Array(bytes)));
    expect(new Set(made).size).toBe(made.length);
    for (const key of made) expect(key).toMatch(/^[0-9a-f]{16}$/);
  });
  it("tells 20,000 small inputs apart", () => {
    const keys = new Set(Array.from({ length: 20_000 }, (_, at) => hashBytes(new Uint8Array([at & 255, at >> 8, 7]))));
    expect(keys.size).toBe(20_000);
  });
});
