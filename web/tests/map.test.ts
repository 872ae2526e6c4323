import { describe, expect, it } from "vitest";
import { DARK, LIGHT, mixed, rankColor } from "../src/map/colors";
import { factsOf, footprints, placed, sayCredit, describeMissing } from "../src/map/features";
import {
  boxFromDrag,
  extentOf,
  graticule,
  graticuleStep,
  parseBox,
  ringOfBox,
  outlineOf,
  sayBox,
  scaleBar,
  shapeOf,
  ticks,
  unwrapped,
  wrap,
  zoomToSee,
} from "../src/map/geometry";
import type { Hit } from "../src/types";

function hit(id: string, more: Partial<Hit> = {}): Hit {
  return {
    id,
    distance: 0.1,
    score: 0.9,
    labels: [],
    shared: [],
    bbox: null,
    geometry: null,
    window: null,
    datetime: null,
    sensor: null,
    group: null,
    near: 0,
    source: "demo",
    ...more,
  };
}

describe("longitudes", () => {
  it("are wrapped into -180..180, whose ends stay", () => {
    expect([0, 180, -180, 181, -181, 540, 359, -725].map(wrap)).toEqual([0, 180, -180, -179, 179, -180, -1, -5]);
  });

  it("of a ring go on past 180 instead of around the earth", () => {
    const ring = unwrapped([
      [179, 1],
      [-179, 1],
      [-179, -1],
      [179, -1],
    ]);
    expect(ring).toEqual([
      [179, 1],
      [181, 1],
      [181, -1],
      [179, -1],
      [179, 1],
    ]);
  });

  it("of a ring that starts in the west go below -180", () => {
    expect(
      unwrapped([
        [-179, 0],
        [179, 0],
        [179, 1],
      ]).map((point) => point[0]),
    ).toEqual([-179, -181, -181, -179]);
  });
});

describe("outlines of hits", () => {
  it("are footprints, else boxes, else nothing", () => {
    const corners: [number, number][] = [
      [1, 1],
      [2, 1],
      [2, 0],
      [1, 0],
      [1, 1],
    ];
    const geometry = { type: "Polygon", coordinates: [corners] };
    expect(shapeOf(hit("a", { geometry, bbox: [0, 0, 9, 9] }))).toEqual([[corners]]);
    expect(shapeOf(hit("b", { bbox: [179, -1, -179, 1] }))).toEqual([[ringOfBox([179, -1, -179, 1])]]);
    expect(ringOfBox([179, -1, -179, 1])[1]).toEqual([181, -1]);
    expect(shapeOf(hit("c"))).toBeNull();
  });

  it("have all their parts and holes", () => {
    const hole = ringOfBox([1, 1, 2, 2]);
    const parts = [[ringOfBox([0, 0, 3, 3]), hole], [ringOfBox([7, 7, 9, 9])]];
    const shape = shapeOf(hit("a", { geometry: { type: "MultiPolygon", coordinates: parts }, bbox: [0, 0, 9, 9] }));
    expect(shape).toEqual(parts);
    expect(outlineOf(shape!)).toBeNull();
    const list = placed([hit("a", { geometry: { type: "MultiPolygon", coordinates: parts } })]);
    expect(extentOf(list.map((one) => one.points))).toEqual([0, 0, 9, 9]);
    const drawn = footprints(list, [factsOf(list[0]!, 1, LIGHT.ranks, new Set(), new Set())]);
    expect(drawn.features[0]?.geometry).toEqual({ type: "MultiPolygon", coordinates: parts });
  });

  it("that the antimeridian cuts lie side by side, and have the corners of the whole", () => {
    const coordinates = [[ringOfBox([178, 0, 180, 1])], [ringOfBox([-180, 0, -179, 1])]];
    const shape = shapeOf(hit("a", { geometry: { type: "MultiPolygon", coordinates } }));
    expect(shape).toEqual([[ringOfBox([178, 0, 180, 1])], [ringOfBox([180, 0, 181, 1])]]);
    const outline = outlineOf(shape!);
    expect(outline).toHaveLength(5);
    expect(new Set(outline!.map(String))).toEqual(new Set(["178,0", "181,0", "181,1", "178,1"]));
    const apart = { type: "MultiPolygon", coordinates: [[ringOfBox([0, 0, 1, 1])], [ringOfBox([2, 0, 3, 1])]] };
    expect(outlineOf(shapeOf(hit("b", { geometry: apart }))!)).toBeNull();
  });

  it("are drawn with the best rank last, so on top", () => {
    const list = placed([hit("a", { bbox: [0, 0, 1, 1] }), hit("none"), hit("b", { bbox: [2, 0, 3, 1] })]);
    expect(list.map((one) => [one.hit.id, one.rank])).toEqual([
      ["a", 1],
      ["b", 3],
    ]);
    const facts = list.map((one) => factsOf(one, 3, LIGHT.ranks, new Set(["b"]), new Set(["a"])));
    expect(facts.map((one) => one.mark)).toEqual([-1, 1]);
    expect(footprints(list, facts).features.map((one) => one.properties?.id)).toEqual(["b", "a"]);
  });

  it("that are missing are counted in words", () => {
    expect(describeMissing(0, 0)).toBe("");
    expect(describeMissing(5, 5)).toBe("");
    expect(describeMissing(5, 0)).toBe("None of the 5 hits has a location.");
    expect(describeMissing(5, 4)).toBe("1 of 5 hits has no location.");
    expect(describeMissing(5, 2)).toBe("3 of 5 hits have no location.");
  });
});

it("tiles are credited as the operator wrote, or to their host", () => {
  expect(sayCredit(null, "somebody")).toBe("");
  expect(sayCredit("https://a.example.org:8443/{z}/{x}/{y}.png", "© Somebody")).toBe("© Somebody");
  expect(sayCredit("https://a.example.org:8443/{z}/{x}/{y}.png", null)).toBe("Tiles from a.example.org:8443");
  expect(sayCredit("/tiles/{z}/{x}/{y}.png", undefined)).toBe("");
});

describe("the extent of results", () => {
  const around = (...boxes: [number, number, number, number][]) => extentOf(boxes.map(ringOfBox));

  it("is the box around them", () => {
    expect(around([1, 2, 3, 4], [-5, 0, -4, 9])).toEqual([-5, 0, 3, 9]);
    expect(extentOf([])).toBeNull();
  });

  it("is narrow across the antimeridian", () => {
    expect(around([170, 0, 175, 1], [-178, 2, -176, 3])).toEqual([170, 0, 184, 3]);
    expect(around([-178, 2, -176, 3], [170, 0, 175, 1], [179, 0, -179, 1])).toEqual([170, 0, 184, 3]);
    expect(around([179, 0, -179, 1])).toEqual([179, 0, 181, 1]);
  });

  it("never spans more than one turn", () => {
    const found = around([-180, -90, 180, 90], [179, 0, -179, 1]);
    expect((found?.[2] ?? 0) - (found?.[0] ?? 0)).toBeLessThanOrEqual(360);
  });
});

describe("a drawn box", () => {
  it("does not depend on the direction of the drag", () => {
    expect(boxFromDrag([3, 4], [1, 2])).toEqual([1, 2, 3, 4]);
    expect(boxFromDrag([1, 4], [3, 2])).toEqual([1, 2, 3, 4]);
  });

  it("crosses the antimeridian as west > east", () => {
    expect(boxFromDrag([179, 0], [182, 1])).toEqual([179, 0, -178, 1]);
    expect(boxFromDrag([-182, 0], [-179, 1])).toEqual([178, 0, -179, 1]);
  });

  it("of another turn of the earth is the same box", () => {
    expect(boxFromDrag([361, 0], [363, 95])).toEqual([1, 0, 3, 90]);
    expect(boxFromDrag([-300, -5], [200, 5])).toEqual([-180, -5, 180, 5]);
  });
});

describe("a typed box", () => {
  it("is read, also across the antimeridian", () => {
    expect(parseBox(["1", " 2 ", "3.5", "4"])).toEqual([1, 2, 3.5, 4]);
    expect(parseBox(["170", "-1", "−170", "1"])).toEqual([170, -1, -170, 1]);
  });

  it("that is wrong says what to change", () => {
    expect(parseBox(["", "2", "3", "4"])).toContain("West");
    expect(parseBox(["1", "x", "3", "4"])).toContain("South");
    expect(parseBox(["1", "2", "181", "4"])).toContain("180");
    expect(parseBox(["1", "2", "3", "91"])).toContain("90");
    expect(parseBox(["1", "5", "3", "4"])).toContain("swap");
    expect(parseBox(["1", "2", "1", "4"])).toContain("empty");
  });

  it("is said in words", () => {
    expect(sayBox([-10, -5, 20.25, 0])).toBe("10° W to 20.25° E, 5° S to 0°");
    expect(sayBox([170, 1, -170, 2])).toContain("across the 180th meridian");
  });
});

describe("the graticule", () => {
  it("has a spacing that fits the view", () => {
    expect(graticuleStep(360)).toBe(30);
    expect(graticuleStep(10)).toBe(2);
    expect(graticuleStep(0.02)).toBe(0.005);
    expect(graticuleStep(1e-9)).toBe(0.0001);
  });

  it("has lines at whole multiples, without drift", () => {
    expect(ticks(0.05, 0.35, 0.1)).toEqual([0.1, 0.2, 0.3]);
    expect(ticks(-1, 1, 0.5)).toEqual([-1, -0.5, 0, 0.5, 1]);
  });

  it("covers the view and stays off the poles", () => {
    const found = graticule(-20, 80, 20, 89);
    expect(found.length).toBeGreaterThan(5);
    expect(found.length).toBeLessThan(40);
    expect(Math.max(...found.flat().map((point) => point[1]))).toBeLessThanOrEqual(85);
  });
});

it("a small footprint is seen only from a closer zoom on", () => {
  const wide = zoomToSee(ringOfBox([0, 0, 1, 1]));
  const small = zoomToSee(ringOfBox([0, 0, 0.01, 0.01]));
  expect(small - wide).toBeCloseTo(Math.log2(100), 3);
});

describe("the scale", () => {
  it("is a round length of at most so many pixels", () => {
    expect(scaleBar(0, 0, 110)).toEqual({ pixels: expect.closeTo(63.88, 1), text: "5000 km" });
    const close = scaleBar(15, 45.14);
    expect(close.text).toBe("100 m");
    expect(close.pixels).toBeCloseTo(59.35, 1);
  });

  it("at 60 degrees has twice the pixels for the same meters", () => {
    const [here, north] = [scaleBar(10, 0), scaleBar(10, 60)];
    const perMeter = (bar: { pixels: number; text: string }) => bar.pixels / Number.parseFloat(bar.text);
    expect(perMeter(north) / perMeter(here)).toBeCloseTo(2, 3);
  });
});

describe("colors of ranks", () => {
  it("run from one end of the ramp to the other", () => {
    expect(rankColor(0, 10, LIGHT.ranks)).toBe(LIGHT.ranks[0]);
    expect(rankColor(9, 10, LIGHT.ranks)).toBe(LIGHT.ranks.at(-1));
    expect(rankColor(0, 1, LIGHT.ranks)).toBe(LIGHT.ranks[0]);
    expect(mixed("#000000", "#ff8040", 0.5)).toBe("#804020");
  });

  it("change in lightness one way, so that hue is not needed", () => {
    const light = (color: string) =>
      [1, 3, 5].reduce((sum, i, c) => sum + Number.parseInt(color.slice(i, i + 2), 16) * ([0.21, 0.72, 0.07][c] ?? 0), 0);
    const rising = LIGHT.ranks.map(light);
    const falling = DARK.ranks.map(light);
    expect(rising).toEqual([...rising].sort((a, b) => a - b));
    expect(falling).toEqual([...falling].sort((a, b) => b - a));
  });
});
