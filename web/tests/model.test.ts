import { describe, expect, it } from "vitest";
import { fitted, kindColor, kindShape, moved, nearest, onCanvas, step, zoomed, within } from "../src/model/flat";
import { parseMarkdown, spansOf } from "../src/model/markdown";
import { barsOf, factsIn, isShare, metricsOf, sayInterval, formatNumber, testTable } from "../src/model/numbers";
import type { LabelScore, SpaceScores } from "../src/types";

describe("model cards", () => {
  it("become headings, lists, tables and paragraphs", () => {
    const blocks = parseMarkdown(
      ["# Encoder", "", "- Backbone: `net`", "- two", "", "One line", "goes on.", "", "| a | b |", "| --- | --- |", "| 1 | 2 |"].join("\n"),
    );
    expect(blocks.map((block) => block.kind)).toEqual(["heading", "list", "paragraph", "table"]);
    expect(blocks[1]).toMatchObject({ items: [[{ text: "Backbone: " }, { text: "net", kind: "code" }], [{ text: "two" }]] });
    expect(blocks[2]).toMatchObject({ spans: [{ text: "One line goes on." }] });
    expect(blocks[3]).toMatchObject({ head: [[{ text: "a" }], [{ text: "b" }]], rows: [[[{ text: "1" }], [{ text: "2" }]]] });
  });

  it("keep HTML and links as text", () => {
    const text = '<img src=x onerror="alert(1)"> [a](javascript:alert(1)) <script>x</script>';
    expect(parseMarkdown(text)).toEqual([{ kind: "paragraph", spans: [{ text, kind: "plain" }] }]);
  });

  it("end, whatever they hold", () => {
    for (const text of ["", "```", "|", "| a |", "#", "# ", "-", "**", "``", "> quoted", "\n\n", "|---|\n|---|"]) {
      expect(Array.isArray(parseMarkdown(text))).toBe(true);
    }
    expect(parseMarkdown("x".repeat(200_000))).toMatchObject([{ spans: [{ text: "x".repeat(100_000) }] }]);
  });

  it("have code and bold parts", () => {
    expect(spansOf("a `b` **c** d")).toEqual([
      { text: "a ", kind: "plain" },
      { text: "b", kind: "code" },
      { text: " ", kind: "plain" },
      { text: "c", kind: "bold" },
      { text: " d", kind: "plain" },
    ]);
  });
});

const score = (mAP: number | null, n_gallery: number): LabelScore => ({ mAP, chance: 0.1, n_query: 1, n_gallery, third: null });

describe("bars of labels", () => {
  const labels = { water: score(0.5, 10), dock: score(0.9, 3), sand: score(null, 0), trees: score(0.5, 90) };

  it("are best first, equal ones by name, unknown ones last", () => {
    expect(barsOf(labels, "score").map((bar) => bar.name)).toEqual(["dock", "trees", "water", "sand"]);
  });

  it("are rarest first", () => {
    expect(barsOf(labels, "frequency").map((bar) => bar.name)).toEqual(["sand", "dock", "water", "trees"]);
  });
});

describe("metrics", () => {
  const space = { metrics: { "P@1": 1, mAP: 0.5, "WAP@100": 2.5, "mAP@20": 0.7 } } as unknown as SpaceScores;

  it("have the main ones first", () => {
    expect(metricsOf(space, false)).toEqual(["mAP", "mAP@20", "WAP@100"]);
    expect(metricsOf(space, true)).toEqual(["mAP", "mAP@20", "WAP@100", "P@1"]);
  });

  it("are drawn as shares only where they are", () => {
    expect(isShare("mAP", [0.5, 0.1, null])).toBe(true);
    expect(isShare("WAP@100", [0.5])).toBe(false);
    expect(isShare("mAP", [1.5])).toBe(false);
  });

  it("are said with intervals, undefined ones as a dash", () => {
    expect(formatNumber(0.12345)).toBe("0.123");
    expect(formatNumber(null)).toBe("–");
    expect(sayInterval([0.1, 0.25])).toBe("0.100 to 0.250");
    expect(sayInterval([null, null])).toBe("–");
    expect(sayInterval(undefined)).toBe("–");
  });

  it("of the maker's test become one table", () => {
    expect(testTable({ about: "", spaces: { code: { mAP: 0.5 }, own: { mAP: 0.4, x: 1 } } })).toEqual({
      metrics: ["mAP", "x"],
      rows: [
        ["Hash code", [0.5, undefined]],
        ["own", [0.4, 1]],
      ],
    });
  });

  it("and facts have names in words", () => {
    expect(factsIn({ n_bits: 64, exclusive_labels: false, other: "x", n_train: 1470 })).toEqual([
      ["Bits of a code", "64"],
      ["One label per image", "no"],
      ["other", "x"],
      ["Training images", "1,470"],
    ]);
  });
});

describe("the embedding map", () => {
  const size = { width: 448, height: 248 };
  const cloud = { x: [0, 4, 0, 4], y: [0, 0, 1, 1] };
  const view = fitted(cloud, size);

  it("shows all points to one scale, up is up", () => {
    expect(view.scale).toBe(100);
    expect(onCanvas(view, size, 0, 0)).toEqual([24, 174]);
    expect(onCanvas(view, size, 4, 1)).toEqual([424, 74]);
    expect(fitted({ x: [1], y: [1] }, size).scale).toBeGreaterThan(0);
    expect(fitted({ x: [], y: [] }, size)).toMatchObject({ x: 0, y: 0 });
  });

  it("finds the nearest point within reach", () => {
    expect(nearest(cloud, view, size, [26, 172], 10)).toBe(0);
    expect(nearest(cloud, view, size, [60, 172], 10)).toBeNull();
    expect(nearest(cloud, view, size, [26, 172], 10, (i) => i !== 0)).toBeNull();
  });

  it("goes with arrow keys, and stays where nothing follows", () => {
    expect(step(cloud, 0, 1, 0)).toBe(1);
    expect(step(cloud, 0, 0, 1)).toBe(2);
    expect(step(cloud, 0, -1, 0)).toBe(0);
    expect(step(cloud, 0, 0, 1, (i) => i !== 2)).toBe(0);
  });

  it("moves with the pointer and zooms within limits", () => {
    const next = moved(view, 50, 20);
    const before = onCanvas(view, size, 1, 1);
    expect(onCanvas(next, size, 1, 1)).toEqual([before[0] + 50, before[1] + 20]);
    expect(zoomed(view, 1e9, view).scale).toBe(view.scale * 40);
    expect(zoomed(view, 1e-9, view).scale).toBe(view.scale * 0.8);
  });

  it("tells 24 kinds apart by color and shape, and gives the rest one gray", () => {
    for (const dark of [true, false]) {
      const look = (kind: number) => `${kindColor(kind, dark)} ${kindShape(kind)}`;
      const looks = Array.from({ length: 24 }, (_, kind) => look(kind));
      expect(new Set(looks).size).toBe(24);
      expect(looks).not.toContain(look(24));
      expect(look(24)).toBe(look(300));
    }
  });
});

it("a lasso selects the points inside it", () => {
  const cloud = { x: [0, 1, 5], y: [0, 1, 0] };
  const view = { scale: 10, x: 0, y: 0 };
  const size = { width: 100, height: 100 };
  const path = [[40, 30], [70, 30], [70, 60], [40, 60]] as const;
  expect(within(cloud, view, size, path)).toEqual([0, 1]);
  expect(within(cloud, view, size, path.slice(0, 2))).toEqual([]);
  // A lasso that bends leaves out what lies in its bend.
  expect(within(cloud, view, size, [[40, 30], [48, 30], [48, 55], [56, 55], [56, 30], [70, 30], [70, 60], [40, 60]])).toEqual([1]);
});
