import { describe, expect, it } from "vitest";
import atlas from "world-atlas/countries-110m.json";
import { LIGHT, mixed } from "../src/map/colors";
import { areaShapes, clusterPoints, drawnOf, imageCorners, shortCount } from "../src/map/places";
import { closedPolygon, cornersOf, MOST_CORNERS, polygonText, readPolygon, readPolygonText } from "../src/map/polygon";
import { outlines } from "../src/map/world";
import type { MapCluster, MapRecord, PlacesAnswer } from "../src/types";

const cluster = (count: number, score: number | null, labeled: number | null = null): MapCluster => ({
  longitude: 1,
  latitude: 2,
  count,
  id: "a",
  bbox: [0, 1, 2, 3],
  score,
  labeled,
});
const square = { type: "Polygon", coordinates: [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]] };
const record = (id: string, labels: string[], score: number | null = null): MapRecord => ({
  id,
  labels,
  score,
  geometry: square,
  bbox: [0, 0, 1, 1],
  percentile: null,
});
const answer = (clusters: MapCluster[], footprints: MapRecord[] = []): PlacesAnswer => ({
  archive: "a",
  records: 10,
  matched: 10,
  placed: 10,
  inside: 10,
  clusters,
  footprints,
});

describe("all records of a search", () => {
  it("are colored by score, the best like the first rank", () => {
    const { clusters, scores } = drawnOf(answer([cluster(5, 0.9), cluster(2, 0.1)]), { kind: "score" }, LIGHT);
    expect(scores).toEqual([0.1, 0.9]);
    expect(clusters.map((one) => one.color)).toEqual([LIGHT.ranks[0], LIGHT.ranks.at(-1)]);
  });

  it("are colored by the share that has a label", () => {
    const paint = { kind: "label", name: "water" } as const;
    const { clusters } = drawnOf(answer([cluster(4, null, 1), cluster(3, null, 3)]), paint, LIGHT);
    expect(clusters.map((one) => one.color)).toEqual([mixed(LIGHT.without, LIGHT.ranks[1] as string, 0.25), LIGHT.ranks[1]]);
    const { areas } = drawnOf(answer([], [record("a", ["water"]), record("b", [])]), paint, LIGHT);
    expect(areas.map((one) => one.color)).toEqual([LIGHT.ranks[1], LIGHT.without]);
  });

  it("become points with true counts, and outlines with ids", () => {
    const drawn = drawnOf(answer([cluster(12_345, 0.5)], [record("x", [])]), { kind: "score" }, LIGHT);
    expect(clusterPoints(drawn).features[0]?.properties).toMatchObject({ count: 12_345, place: 0 });
    const { shapes, middles } = areaShapes(drawn);
    expect(shapes.features[0]?.properties?.id).toBe("x");
    expect(middles.features[0]?.geometry).toEqual({ type: "Point", coordinates: [0.5, 0.5] });
  });

  it("have short counts", () => {
    expect([7, 9_999, 12_345, 999_499, 1_234_567].map(shortCount)).toEqual(["7", "9999", "12.3k", "999k", "1.2M"]);
  });
});

describe("the corners of an image", () => {
  const wanted = [[0, 1], [1, 1], [1, 0], [0, 0]];
  it("begin at the top left, however the ring is written", () => {
    expect(imageCorners([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])).toEqual(wanted);
    expect(imageCorners([[1, 1], [1, 0], [0, 0], [0, 1], [1, 1]])).toEqual(wanted);
  });

  it("turn with a footprint that is turned", () => {
    const turned = imageCorners([[0.1, 0], [1, 0.1], [0.9, 1], [0, 0.9], [0.1, 0]]);
    expect(turned).toEqual([[0, 0.9], [0.9, 1], [1, 0.1], [0.1, 0]]);
  });

  it("are not known of other shapes", () => {
    expect(imageCorners([[0, 0], [1, 0], [1, 1], [0, 0]])).toBeNull();
  });
});

describe("polygons", () => {
  it("are read from any GeoJSON that holds one", () => {
    const rings = [[[0, 0], [1, 0], [1, 1], [0, 0]]];
    const polygon = { type: "Polygon", coordinates: rings };
    const feature = { type: "Feature", geometry: polygon, properties: {} };
    for (const one of [polygon, feature, { type: "FeatureCollection", features: [feature] }, { type: "MultiPolygon", coordinates: [rings] }])
      expect(readPolygon(JSON.stringify(one))).toEqual(rings);
  });

  it("are refused with a reason", () => {
    const rings = (n: number) => [[...Array.from({ length: n }, (_, i) => [i / 100, i % 2]), [0, 0]]];
    expect(readPolygon("no")).toBe("This is not GeoJSON.");
    expect(readPolygon('{"type":"Point","coordinates":[0,0]}')).toBe("The GeoJSON holds no polygon.");
    expect(readPolygon(JSON.stringify({ type: "MultiPolygon", coordinates: [rings(3), rings(3)] }))).toContain("2 polygons");
    expect(readPolygon(JSON.stringify({ type: "Polygon", coordinates: rings(MOST_CORNERS + 1) }))).toContain("501 corners");
    expect(readPolygon(JSON.stringify({ type: "Polygon", coordinates: [[[500_000, 4_000_000], [1, 0], [1, 1], [500_000, 4_000_000]]] }))).toContain("degrees");
  });

  it("come back from an address as they were", () => {
    const drawn = closedPolygon([[0.5, 1], [2, 3], [4, -5.25]]);
    expect(drawn && cornersOf(drawn)).toBe(3);
    expect(readPolygonText(drawn && polygonText(drawn))).toEqual(drawn);
    expect(closedPolygon([[0, 0], [1, 1]])).toBeNull();
    for (const wrong of ["", "1,2", "1,2,3,4,5,x", "900,0,1,1,2,2"]) expect(readPolygonText(wrong)).toBeNull();
  });
});

it("land and borders are outlines of many countries", () => {
  const { land, borders } = outlines(atlas as never);
  const shape = land.features[0]?.geometry;
  const rings = shape?.type === "MultiPolygon" ? shape.coordinates.flat() : [];
  expect(rings.length).toBeGreaterThan(100);
  // No edge runs the long way around the earth, but along the pole.
  for (const ring of rings)
    for (const [i, [x, y]] of ring.entries())
      if (i && y! > -89) expect(Math.abs(x! - ring[i - 1]![0]!)).toBeLessThanOrEqual(180);
  const geometry = borders.features[0]?.geometry;
  expect(geometry?.type === "MultiLineString" && geometry.coordinates.length).toBeGreaterThan(100);
});
