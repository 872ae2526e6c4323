import { describe, expect, it } from "vitest";
import { fromQuery, NO_FILTERS, readBox, readDate, START, toQuery, type PageState } from "../src/state";

const FULL: PageState = {
  page: "model",
  archive: "coast & hills",
  query: { kind: "record", id: "port/a b,c+d?#ä.tif" },
  positives: ["a/1.png", "b:2"],
  negatives: ["c=3&d"],
  filters: {
    all: ["water", "bare soil"],
    any: ["ship", "dock"],
    none: ["and"],
    expression: '(trees or "bare soil") and not ship',
    scores: [
      ["ship", 0.7],
      ["a:b", 0.05],
    ],
    from: "2024-02-29",
    until: "2024-12-31",
    groups: ["harbor"],
    sensors: ["S2 A"],
    parts: ["train", "test"],
    box: [170.5, -10, -170.25, 10.125],
    polygon: [
      [
        [0, 0],
        [10, 0],
        [10, 10.5],
        [0, 0],
      ],
    ],
  },
  mode: "two-stage",
  least: 0.625,
  percentile: 12.5,
  collapse: true,
  beside: "other model",
  k: 48,
  pages: 3,
  view: "both",
  open: "port/07.png",
  collection: "xT-9_a",
  compared: { before: ["2012-01-01", "2012-12-31"], after: ["2018-01-01", null], had: "field", has: "not field, \"bare soil\"", gained: ["buildings", "bare soil"], lost: ["field"], by: "water", other: "later", alpha: 0.2 },
};

describe("state and URL", () => {
  it("is empty at the start, both ways", () => {
    expect(toQuery(START)).toBe("");
    expect(fromQuery("")).toEqual(START);
  });

  it.each(["0", "-1", "100.5", "x", "", " "])("ignores the percentile %j", (text) => {
    expect(fromQuery(`?percentile=${encodeURIComponent(text)}`)).toEqual(START);
  });

  it("comes back whole", () => {
    expect(fromQuery(toQuery(FULL))).toEqual(FULL);
  });

  it.each([{ kind: "image", key: "00ff00ff00ff00ff", crop: null } as const, {
    kind: "image",
    key: "0123456789abcdef",
    crop: { col: 0, row: 12, width: 64, height: 1 },
  } as const])("keeps an image's key and region", (query) => {
    expect(fromQuery(toQuery({ ...START, query })).query).toEqual(query);
  });

  it("survives a second round for any text in an id", () => {
    for (const id of ["%", "%2F", "a%00b", "\u2028", "../..", "<script>", "a\nb", "💧", "+ +"]) {
      const once = toQuery({ ...START, query: { kind: "record", id } });
      expect(fromQuery(once).query).toEqual({ kind: "record", id });
      expect(toQuery(fromQuery(once))).toBe(once);
    }
  });

  it("prefers a record where a URL names an image too", () => {
    expect(fromQuery("?id=x&image=0123456789abcdef").query).toEqual({ kind: "record", id: "x" });
  });
});

describe("days of an address", () => {
  it.each([
    ["?datetime=2024-01-31/2024-02-29", "2024-01-31", "2024-02-29"],
    ["?datetime=2024-01-31/..", "2024-01-31", null],
    ["?datetime=../2024-02-29", null, "2024-02-29"],
    ["?datetime=2024-02", "2024-02-01", "2024-02-29"],
    ["?datetime=2023/2024-04", "2023-01-01", "2024-04-30"],
    ["?datetime=2024-02-03", "2024-02-03", "2024-02-03"],
    ["?datetime=2024-02-03T00:00:00Z/2024-02-04T12:00:00Z", "2024-02-03", "2024-02-04"],
    ["?from=2024-01-31&until=2024-02-29", "2024-01-31", "2024-02-29"],
  ])("%s are %s to %s", (text, from, until) => {
    expect(fromQuery(text).filters).toEqual({ ...NO_FILTERS, from, until });
  });
  it("are written as an interval", () => {
    expect(toQuery(fromQuery("?from=2024-01-31"))).toBe("?datetime=2024-01-31/..");
    expect(toQuery(fromQuery("?until=2024-01-31"))).toBe("?datetime=../2024-01-31");
  });
});

describe("hostile URLs", () => {
  it.each([
    "?mode=drop+table&k=-1&pages=0&view=%00&page=admin",
    "?k=NaN&pages=1e9&bbox=NaN,0,0,0&crop=1,2,3",
    "?image=../../etc/passwd&crop=0,0,0,0",
    "?score=2:ship&score=ship&score=:&score=-1:a&score=NaN:a",
    "?from=2024-13-01&until=2023-02-29",
    "?datetime=2024-13-01/2023-02-29",
    "?datetime=../..",
    "?datetime=now",
    "?datetime=",
    "?part=all&part=__proto__&bbox=0,10,0,-10&bbox=",
    "?__proto__=1&constructor=2&%E0%A4%A=1",
  ])("%s asks for nothing", (text) => {
    expect(fromQuery(text)).toEqual({ ...START, k: fromQuery(text).k });
  });

  it("holds numbers within their limits", () => {
    expect(fromQuery("?k=999999").k).toBe(1000);
    expect(fromQuery("?k=0").k).toBe(1);
    expect(fromQuery("?k=12.5").k).toBe(START.k);
    // All pages together stay within what one search may ask for.
    expect(fromQuery("?k=500&pages=9").pages).toBe(2);
  });

  it("bounds lengths and numbers of values", () => {
    expect(fromQuery(`?id=${"x".repeat(1025)}`).query).toEqual({ kind: "none" });
    expect(fromQuery(`?where=${"x".repeat(2001)}`).filters.expression).toBe("");
    const many = Array.from({ length: 5000 }, (_, at) => `good=${at}`).join("&");
    expect(fromQuery(`?${many}`).positives).toHaveLength(100);
  });

  it("lists nothing twice, and nothing as good and bad", () => {
    const found = fromQuery("?good=a&good=a&bad=a&bad=b");
    expect(found.positives).toEqual(["a"]);
    expect(found.negatives).toEqual(["b"]);
  });
});

describe("readBox", () => {
  it.each([
    ["1,2,3,4", [1, 2, 3, 4]],
    ["170,-1,-170,1", [170, -1, -170, 1]],
    ["-180,-90,180,90", [-180, -90, 180, 90]],
    ["0,0,0,0", [0, 0, 0, 0]],
    ["1,2,3", null],
    ["1,2,3,4,5", null],
    ["1,4,3,2", null],
    ["181,0,0,0", null],
    ["0,-91,0,0", null],
    ["1,,3,4", null],
    ["a,b,c,d", null],
    ["Infinity,0,0,0", null],
  ])("reads %s", (text, box) => expect(readBox(text)).toEqual(box));
});

describe("readDate", () => {
  it.each(["2024-02-29", "1900-01-01", "2199-12-31"])("takes %s", (text) => expect(readDate(text)).toBe(text));
  it.each(["2023-02-29", "2024-1-1", "1899-12-31", "2200-01-01", "2024-01-01T00:00", "", null])(
    "leaves %s out",
    (text) => expect(readDate(text)).toBeNull(),
  );
});
