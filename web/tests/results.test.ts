// @vitest-environment happy-dom
import { describe, expect, it } from "vitest";
import { compare, inWords } from "../src/search/compare";
import { gridKey, isTyping } from "../src/search/keys";
import { marked, markOf, NO_MARKS, sameMarks } from "../src/search/marks";
import { labelBits, middleOf, milliseconds, nearness, shortId, shortNearness } from "../src/search/why";
import type { Hit } from "../src/types";

function hit(distance: number, score = 1): Hit {
  return {
    ...{ id: "a/b.tif", distance, score, labels: [], shared: [], bbox: null, geometry: null },
    ...{ window: null, datetime: null, sensor: null, group: null, near: 0, source: "demo" },
  };
}

describe("compare", () => {
  it("tells who moved, who is new and who is gone", () => {
    const found = compare(["a", "b", "c", "d"], ["b", "a", "e", "d"]);
    expect(found.fresh).toEqual(["e"]);
    expect(found.dropped).toEqual(["c"]);
    expect([found.up, found.down, found.same]).toEqual([1, 1, 1]);
    expect(found.moved.get("b")).toEqual({ from: 2, to: 1 });
    expect(inWords(found)).toBe("1 new, 1 moved up, 1 moved down, 1 dropped");
  });
  it("does not count what is asked with as dropped", () => {
    expect(compare(["a", "b"], ["b", "c"], new Set(["a"])).dropped).toEqual([]);
  });
  it("finds ranks beyond as many hits as there are now, but drops none of them", () => {
    const found = compare(["a", "b", "c", "d"], ["d", "a"]);
    expect(found.moved.get("d")).toEqual({ from: 4, to: 1 });
    expect(found.dropped).toEqual(["b"]);
  });
  it("of equal rankings says so", () => {
    expect(inWords(compare(["a", "b"], ["a", "b"]))).toBe("Nothing changed");
    expect(inWords(compare([], []))).toBe("Nothing changed");
  });
  it("drops everything when nothing is left", () => {
    expect(compare(["a", "b"], []).dropped).toEqual(["a", "b"]);
  });
  it("counts each hit once, for any two rankings", () => {
    const ids = [..."abcdefgh"];
    for (let turn = 0; turn < 50; turn += 1) {
      const order = (salt: number) => [...ids].sort((x, y) => Math.sin(x.charCodeAt(0) * salt) - Math.sin(y.charCodeAt(0) * salt));
      const [before, after] = [order(turn + 1).slice(0, 5), order(turn + 77).slice(0, 5)];
      const found = compare(before, after);
      expect(found.up + found.down + found.same + found.fresh.length).toBe(5);
      expect(found.dropped.length).toBe(found.fresh.length);
    }
  });
});

describe("gridKey", () => {
  const key = (name: string, at = 5, count = 10, columns = 4) => gridKey({ key: name }, at, count, columns);
  it.each([
    ["ArrowRight", 6],
    ["ArrowLeft", 4],
    ["ArrowDown", 9],
    ["ArrowUp", 1],
    ["Home", 0],
    ["End", 9],
    ["PageDown", 9],
    ["PageUp", 0],
  ])("%s moves", (name, at) => expect(key(name)).toEqual({ kind: "focus", at }));
  it("stays inside", () => {
    expect(key("ArrowRight", 9)).toEqual({ kind: "focus", at: 9 });
    expect(key("ArrowLeft", 0)).toEqual({ kind: "focus", at: 0 });
    expect(key("ArrowUp", 2)).toEqual({ kind: "focus", at: 2 });
    expect(key("ArrowDown", 8)).toEqual({ kind: "focus", at: 9 });
  });
  it.each([
    ["+", "good"],
    ["=", "good"],
    ["-", "bad"],
    ["Enter", "open"],
    ["q", "query"],
  ])("%s acts", (name, kind) => expect(key(name)).toEqual({ kind }));
  it("leaves other keys, and those of the browser, alone", () => {
    expect(key("y")).toBeNull();
    expect(gridKey({ key: "+", ctrlKey: true }, 0, 9, 3)).toBeNull();
    expect(gridKey({ key: "ArrowLeft", altKey: true }, 0, 9, 3)).toBeNull();
    expect(key("+", 0, 0)).toBeNull();
  });
});

describe("isTyping", () => {
  it("tells text fields from buttons", () => {
    const made = (html: string) => {
      document.body.innerHTML = html;
      return document.body.firstElementChild;
    };
    expect(isTyping(made("<input type=text>"))).toBe(true);
    expect(isTyping(made("<input type=date>"))).toBe(true);
    expect(isTyping(made("<textarea></textarea>"))).toBe(true);
    expect(isTyping(made("<select></select>"))).toBe(true);
    expect(isTyping(made("<input type=checkbox>"))).toBe(false);
    expect(isTyping(made("<button></button>"))).toBe(false);
    expect(isTyping(null)).toBe(false);
  });
});

describe("marks", () => {
  it("are good, bad or neither", () => {
    let marks = marked(NO_MARKS, "a", "good");
    expect(markOf(marks, "a")).toBe("good");
    marks = marked(marks, "a", "bad");
    expect(marks).toEqual({ positives: [], negatives: ["a"] });
    expect(marked(marks, "a", "bad")).toEqual(NO_MARKS);
  });
  it("are as many as the server takes, the newest ones", () => {
    const marks = ["a", "b", "c"].reduce((all, id) => marked(all, id, "good", 2), NO_MARKS);
    expect(marks.positives).toEqual(["b", "c"]);
  });
  it("are the same in any order", () => {
    expect(sameMarks({ positives: ["a", "b"], negatives: [] }, { positives: ["b", "a"], negatives: [] })).toBe(true);
    expect(sameMarks({ positives: ["a"], negatives: [] }, { positives: [], negatives: ["a"] })).toBe(false);
  });
});

describe("labelBits", () => {
  it("counts bits that neither has as equal", () => {
    const bits = labelBits(["a", "b", "c", "d"], ["a", "b"], ["b", "c"]);
    expect(bits).toEqual({ both: ["b"], query: ["a"], hit: ["c"], agree: 2, total: 4 });
  });
  it("takes what occurs where the names are not known", () => {
    expect(labelBits([], ["a"], ["a", "b"])).toMatchObject({ agree: 1, total: 2 });
  });
});

describe("numbers in words", () => {
  it.each([
    ["embedding", 0.25, 0.75, "cosine 0.750", "0.750"],
    ["fused", 0.4, 0.75, "score 0.750", "0.750"],
    ["code", 1, 0.9, "1 of 64 bits differ", "1 bit"],
    ["code", 7, 0.9, "7 of 64 bits differ", "7 bits"],
    ["cue", 9, 0.9, "cue distance 9", "d 9"],
    ["place", 0.4, 1, "400 m", "400 m"],
    ["place", 12.34, 1, "12.3 km", "12.3 km"],
    ["list", 0, 1, "", ""],
  ])("of mode %s", (mode, distance, score, long, short) => {
    expect(nearness(hit(distance, score), mode, 64)).toBe(long);
    expect(shortNearness(hit(distance, score), mode)).toBe(short);
  });
  it.each([
    [0.34, "0.3 ms"],
    [12.4, "12 ms"],
    [2500, "2.5 s"],
  ])("of %s milliseconds", (value, text) => expect(milliseconds(value)).toBe(text));
  it("find the middle of a box, also across the antimeridian", () => {
    expect(middleOf([10, -2, 20, 4])).toEqual([15, 1]);
    expect(middleOf([179, 0, -177, 2])).toEqual([-179, 1]);
    expect(middleOf([177, 0, -179, 2])).toEqual([179, 1]);
  });
  it("show the end of a path", () => {
    expect(shortId("a/b.tif")).toBe("b.tif");
    expect(shortId("a")).toBe("a");
    expect(shortId("a/")).toBe("a/");
  });
});
