/** Hits as what the map draws. */

import type * as GeoJSON from "geojson";
import type { Hit } from "../types";
import { rankColor } from "./colors";
import type { Rings } from "./polygon";
import { middleOf, shapeOf, zoomToSee, type Point, type Shape } from "./geometry";

export interface Placed {
  readonly hit: Hit;
  /** From 1. */
  readonly rank: number;
  readonly shape: Shape;
  /** Of all parts. */
  readonly points: readonly Point[];
}

export interface Facts {
  id: string;
  rank: number;
  color: string;
  /** Whether it is marked: good 1, bad -1, neither 0. */
  mark: number;
  /** From this zoom on its outline is large enough to be seen. */
  seen: number;
}

/** Return the hits whose place is known, in rank order. */
export function placed(hits: readonly Hit[]): Placed[] {
  return hits.flatMap((hit, i) => {
    const shape = shapeOf(hit);
    return shape ? [{ hit, rank: i + 1, shape, points: shape.flat(2) }] : [];
  });
}

export function factsOf(
  one: Placed,
  n: number,
  ranks: readonly string[],
  good: ReadonlySet<string>,
  bad: ReadonlySet<string>,
): Facts {
  const { id } = one.hit;
  return {
    id,
    rank: one.rank,
    color: rankColor(one.rank - 1, n, ranks),
    mark: good.has(id) ? 1 : bad.has(id) ? -1 : 0,
    seen: zoomToSee(one.points),
  };
}

/** Return footprints, the nearest hit last so that it is drawn on top. */
export function footprints(list: readonly Placed[], facts: readonly Facts[]): GeoJSON.FeatureCollection {
  return collection(
    list.map((one, i) => feature({ type: "MultiPolygon", coordinates: one.shape }, facts[i])).reverse(),
  );
}

/** Return the middles of footprints, likewise. */
export function middles(list: readonly Placed[], facts: readonly Facts[]): GeoJSON.FeatureCollection {
  return collection(
    list.map((one, i) => feature({ type: "Point", coordinates: middleOf(one.points) }, facts[i])).reverse(),
  );
}

export function lines(coordinates: Point[][]): GeoJSON.FeatureCollection {
  return collection([feature({ type: "MultiLineString", coordinates }, {})]);
}

export function polygons(given: readonly Rings[]): GeoJSON.FeatureCollection {
  const copied = given.map((rings) => rings.map((ring) => ring.map(([x, y]): Point => [x, y])));
  return collection(copied.map((coordinates) => feature({ type: "Polygon", coordinates }, {})));
}

/** Return the corners of an unfinished polygon, and the line through them to the pointer. */
export function sketch(corners: readonly Point[], pointer?: Point): GeoJSON.FeatureCollection {
  const line = pointer ? [...corners, pointer] : [...corners];
  return collection([
    ...(line.length > 1 ? [feature({ type: "LineString", coordinates: line }, {})] : []),
    ...corners.map((coordinates) => feature({ type: "Point", coordinates }, {})),
  ]);
}

/** Say how many hits have no place; nothing when all have one. */
export function describeMissing(hits: number, shown: number): string {
  if (!hits || hits === shown) return "";
  if (!shown) return hits === 1 ? "The hit has no location." : `None of the ${hits} hits has a location.`;
  const missing = hits - shown;
  return `${missing} of ${hits} hits ${missing === 1 ? "has" : "have"} no location.`;
}

/** Say whose tiles are shown: what the operator wrote, or else their host. */
export function sayCredit(basemap: string | null, credit: string | null | undefined): string {
  if (!basemap) return "";
  if (credit) return credit;
  const host = /^https?:\/\/([^/]+)/.exec(basemap)?.[1];
  return host ? `Tiles from ${host}` : "";
}

function feature(geometry: GeoJSON.Geometry, properties: object | undefined): GeoJSON.Feature {
  return { type: "Feature", geometry, properties: { ...properties } };
}

function collection(features: GeoJSON.Feature[]): GeoJSON.FeatureCollection {
  return { type: "FeatureCollection", features };
}
