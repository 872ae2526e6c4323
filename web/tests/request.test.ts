import { describe, expect, it } from "vitest";
import { dropLabel, setDays, setScore, suggest, wordAt, toggled, turnLabel, wantedOf, wantLabel } from "../src/search/filters";
import { exampleKey, expressionOf, filtersOf, isBrowsing, isSearch, quoted, requestOf, searchKey } from "../src/search/request";
import { NO_FILTERS, START, type PageState } from "../src/state";

const record: PageState = { ...START, query: { kind: "record", id: "a" } };

describe("quoted", () => {
  it.each([
    ["water", "water"],
    ["bare-soil", "bare-soil"],
    ["bare soil", '"bare soil"'],
    ["and", '"and"'],
    ["NOT", '"NOT"'],
    ['a"b c', '"a""b c"'],
    ["(x)", '"(x)"'],
    ["a,b", '"a,b"'],
    ["it's", "it's"],
    ["'t", '"\'t"'],
  ])("writes %s", (name, text) => expect(quoted(name)).toBe(text));
});

describe("expressionOf", () => {
  it("joins chips and the box in one", () => {
    const filters = { ...NO_FILTERS, all: ["water"], any: ["ship", "dock"], none: ["bare soil"], expression: "a or b" };
    expect(expressionOf(filters)).toBe('water and (ship or dock) and not "bare soil" and (a or b)');
  });
  it("leaves the box alone as it was typed", () => {
    expect(expressionOf({ ...NO_FILTERS, expression: " a or b " })).toBe("a or b");
  });
  it("writes one of any without parentheses", () => {
    expect(expressionOf({ ...NO_FILTERS, any: ["ship"] })).toBe("ship");
  });
});

describe("filtersOf", () => {
  it("is empty for no filters", () => expect(filtersOf(NO_FILTERS)).toEqual({}));
  it("includes the last day", () => {
    const found = filtersOf({ ...NO_FILTERS, from: "2024-02-28", until: "2024-02-28" });
    expect(found).toEqual({ datetime: "2024-02-28/2024-02-28" });
  });
  it("leaves an end open", () => {
    expect(filtersOf({ ...NO_FILTERS, from: "2024-02-28" })).toEqual({ datetime: "2024-02-28/.." });
    expect(filtersOf({ ...NO_FILTERS, until: "2024-02-28" })).toEqual({ datetime: "../2024-02-28" });
  });
});

describe("requestOf", () => {
  it("bounds the percentile of an example's hits", () => {
    expect(requestOf({ ...record, percentile: 20 }).min_percentile).toBe(20);
    expect(requestOf({ ...START, percentile: 20 })).not.toHaveProperty("min_percentile");
  });
  it("asks for all pages at once, up to the limit", () => {
    expect(requestOf({ ...record, k: 24, pages: 3 }).k).toBe(72);
    expect(requestOf({ ...record, k: 1000, pages: 2 }).k).toBe(1000);
  });
  it("sends no mode and no negatives without an example", () => {
    const found = requestOf({ ...START, mode: "code", negatives: ["b"], filters: { ...NO_FILTERS, all: ["x"] } });
    expect(found).not.toHaveProperty("mode");
    expect(found).not.toHaveProperty("negatives");
  });
  it("asks with marks alone", () => {
    const found = requestOf({ ...START, positives: ["a"], negatives: ["b"], mode: "code" });
    expect(found).toMatchObject({ positives: ["a"], negatives: ["b"], mode: "code" });
  });
});

describe("keys", () => {
  it("do not change with what only shows", () => {
    expect(searchKey({ ...record, view: "map", open: "x", pages: 3 })).toBe(searchKey(record));
  });
  it("change with what is asked", () => {
    const others: Partial<PageState>[] = [
      { mode: "code" },
      { k: 12 },
      { positives: ["b"] },
      { archive: "other" },
      { query: { kind: "image", key: "0123456789abcdef", crop: null } },
      { query: { kind: "image", key: "0123456789abcdef", crop: { col: 0, row: 0, width: 1, height: 1 } } },
      { filters: { ...NO_FILTERS, groups: ["g"] } },
    ];
    const keys = new Set([searchKey(record), ...others.map((patch) => searchKey({ ...record, ...patch }))]);
    expect(keys.size).toBe(others.length + 1);
  });
  it("of an example stay through marks, modes and filters", () => {
    const other = { ...record, mode: "code" as const, positives: ["b"], filters: { ...NO_FILTERS, all: ["x"] } };
    expect(exampleKey(other)).toBe(exampleKey(record));
    expect(exampleKey({ ...record, archive: "other" })).not.toBe(exampleKey(record));
  });
  it("of the map before anything is asked list records", () => {
    const browsing: PageState = { ...START, view: "both" };
    expect(isBrowsing(browsing)).toBe(true);
    expect(isBrowsing(START)).toBe(false);
    expect(isBrowsing({ ...record, view: "map" })).toBe(false);
    expect(requestOf(browsing).k).toBe(START.k);
    expect(searchKey(browsing)).not.toBe(searchKey(START));
  });
  it("tell whether anything is asked", () => {
    expect(isSearch(START)).toBe(false);
    expect(isSearch({ ...START, negatives: ["b"] })).toBe(false);
    expect(isSearch({ ...START, filters: { ...NO_FILTERS, box: [0, 0, 1, 1] } })).toBe(true);
  });
});

describe("changing filters", () => {
  it("wants a label in one way at a time", () => {
    let filters = wantLabel(NO_FILTERS, "water", "all");
    filters = wantLabel(filters, "water", "none");
    expect([filters.all, filters.none]).toEqual([[], ["water"]]);
    expect(wantedOf(filters, "water")).toBe("none");
    expect(dropLabel(filters, "water")).toEqual(NO_FILTERS);
  });
  it("turns a label through all, any and none", () => {
    const seen = [1, 2, 3].reduce<[typeof NO_FILTERS, (string | null)[]]>(
      ([filters, ways]) => {
        const next = turnLabel(filters, "x");
        return [next, [...ways, wantedOf(next, "x")]];
      },
      [wantLabel(NO_FILTERS, "x", "all"), []],
    );
    expect(seen[1]).toEqual(["any", "none", "all"]);
  });
  it("bounds and rounds scores", () => {
    expect(setScore(NO_FILTERS, "x", 1.7).scores).toEqual([["x", 1]]);
    expect(setScore(NO_FILTERS, "x", 0.123).scores).toEqual([["x", 0.12]]);
    expect(setScore(setScore(NO_FILTERS, "x", 0.5), "x", null).scores).toEqual([]);
    expect(setScore(NO_FILTERS, "x", Number.NaN).scores).toEqual([]);
  });
  it("puts days in order", () => {
    expect(setDays(NO_FILTERS, "2024-02-01", "2024-01-01")).toMatchObject({ from: "2024-01-01", until: "2024-02-01" });
  });
  it("puts values in and takes them out", () => {
    expect(toggled(["a"], "b")).toEqual(["a", "b"]);
    expect(toggled(["a", "b"], "a")).toEqual(["b"]);
  });
  it("suggests labels that begin with the text first", () => {
    const known = [
      { name: "bare-soil", records: 9 },
      { name: "sand", records: 1 },
      { name: "sea", records: 5 },
      { name: "grass", records: 99 },
    ];
    expect(suggest(known, "s").map((one) => one.name)).toEqual(["sea", "sand", "grass", "bare-soil"]);
    expect(suggest(known, " SA ").map((one) => one.name)).toEqual(["sand"]);
    expect(suggest(known, "", 2).map((one) => one.name)).toEqual(["grass", "bare-soil"]);
  });
});

it("the name that is typed begins after the last operator or bracket", () => {
  const at = (text: string) => wordAt(text, text.length)?.text ?? null;
  expect(["wat", "water and not sh", "(grass or tr", "bare so", 'not "bare s', "water,gr"].map(at)).toEqual(["wat", "sh", "tr", "bare so", "bare s", "gr"]);
  expect(["", "water and ", "(", "land", "ore"].map(at)).toEqual([null, null, null, "land", "ore"]);
  expect(wordAt("water and grass", 5)).toEqual({ text: "water", start: 0, end: 5 });
});
