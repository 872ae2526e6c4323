/** All records that pass a search, as what the map draws: clusters, or single footprints. */

import type * as GeoJSON from "geojson";
import type { MapCluster, PlacesAnswer } from "../types";
import { mixed, rankColor } from "./colors";
import { middleOf, shapeOf, zoomToSee, type Point, type Ring, type Shape } from "./geometry";

/** What colors encode: scores, or one label. */
export type Paint = { readonly kind: "score" } | { readonly kind: "label"; readonly name: string };

export interface Palette {
  readonly ranks: readonly string[];
  readonly without: string;
}

/** A record drawn by itself. */
export interface Area {
  readonly id: string;
  readonly shape: Shape;
  /** Of all parts. */
  readonly points: readonly Point[];
  readonly color: string;
  readonly labels: readonly string[];
  readonly score: number | null;
}

export interface Drawn {
  readonly areas: readonly Area[];
  readonly clusters: readonly (MapCluster & { readonly color: string })[];
  /** Lowest and highest score; null where there are no scores. */
  readonly scores: readonly [number, number] | null;
}

/** Choose colors for an answer. */
export function drawnOf(answer: PlacesAnswer, paint: Paint, { ranks, without }: Palette): Drawn {
  const given = [...answer.clusters, ...answer.footprints].flatMap((one) => (one.score === null ? [] : [one.score]));
  const scores = given.length ? ([Math.min(...given), Math.max(...given)] as const) : null;
  const steps = 100;
  const byScore = (score: number | null) => {
    if (score === null || !scores) return ranks[2] as string;
    const share = scores[1] > scores[0] ? (scores[1] - score) / (scores[1] - scores[0]) : 0;
    return rankColor(Math.round(share * steps), steps + 1, ranks);
  };
  const byShare = (share: number) => mixed(without, ranks[1] as string, share);
  return {
    scores,
    areas: answer.footprints.flatMap((one) => {
      const shape = shapeOf(one);
      const color = paint.kind === "label" ? byShare(one.labels.includes(paint.name) ? 1 : 0) : byScore(one.score);
      return shape ? [{ id: one.id, shape, points: shape.flat(2), color, labels: one.labels, score: one.score }] : [];
    }),
    clusters: answer.clusters.map((one) => ({
      ...one,
      color: paint.kind === "label" ? byShare((one.labeled ?? 0) / one.count) : byScore(one.score),
    })),
  };
}

/** Say a count in at most five characters. */
export function shortCount(count: number): string {
  if (count < 10_000) return String(count);
  if (count < 1_000_000) return `${Number((count / 1000).toFixed(count < 100_000 ? 1 : 0))}k`;
  return `${Number((count / 1_000_000).toFixed(1))}M`;
}

export function radiusOf(count: number): number {
  return 11 + 3.2 * Math.log10(Math.max(1, count));
}

/** Clusters as points. */
export function clusterPoints(drawn: Drawn): GeoJSON.FeatureCollection {
  return {
    type: "FeatureCollection",
    features: drawn.clusters.map((one, place) => ({
      type: "Feature",
      geometry: { type: "Point", coordinates: [one.longitude, one.latitude] },
      properties: { place, color: one.color, radius: radiusOf(one.count), text: `${shortCount(one.count)} ${one.color}`, count: one.count },
    })),
  };
}

/** Outlines of single records, and their middles for zooms at which the outline is too small. */
export function areaShapes(drawn: Drawn): { shapes: GeoJSON.FeatureCollection; middles: GeoJSON.FeatureCollection } {
  const make = (geometry: (one: Area) => GeoJSON.Geometry): GeoJSON.FeatureCollection => ({
    type: "FeatureCollection",
    features: drawn.areas.map((one) => ({
      type: "Feature",
      geometry: geometry(one),
      properties: { id: one.id, color: one.color, rank: 0, seen: zoomToSee(one.points) },
    })),
  });
  return {
    shapes: make(({ shape }) => ({ type: "MultiPolygon", coordinates: shape })),
    middles: make(({ points }) => ({ type: "Point", coordinates: middleOf(points) })),
  };
}

/**
 * Return the corners of a footprint as an image has them: top left, top right, bottom right, bottom
 * left; null where it has not four. An image lies on its footprint as its chip was read: north up to
 * the nearest quarter turn.
 */
export function imageCorners(ring: Ring): [Point, Point, Point, Point] | null {
  const points = ring.slice(0, -1).map(([x, y]): Point => [x, y]);
  if (points.length !== 4) return null;
  const across = points.map((point) => point[0]);
  const along = points.map((point) => point[1]);
  const [west, east] = [Math.min(...across), Math.max(...across)];
  const [south, north] = [Math.min(...along), Math.max(...along)];
  const box: Point[] = [
    [west, north],
    [east, north],
    [east, south],
    [west, south],
  ];
  const [wide, high] = [east - west || 1, north - south || 1];
  let best: Point[] = [];
  let least = Infinity;
  for (const order of [points, [...points].reverse()]) {
    for (let turn = 0; turn < 4; turn++) {
      const turned = [...order.slice(turn), ...order.slice(0, turn)];
      const far = turned.reduce(
        (sum, point, i) => sum + ((point[0] - box[i]![0]) / wide) ** 2 + ((point[1] - box[i]![1]) / high) ** 2,
        0,
      );
      if (far < least) [best, least] = [turned, far];
    }
  }
  return best as [Point, Point, Point, Point];
}
