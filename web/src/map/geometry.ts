/**
 * Places on a round earth as numbers on a flat map. Longitudes of one shape go on past 180 where it
 * crosses the antimeridian, so that no edge runs the long way around.
 */

import type * as GeoJSON from "geojson";
import type { Box } from "../names";
import type { Hit } from "../types";

export type Point = [number, number];
export type Ring = readonly Readonly<Point>[];
/** Polygons, each with its outer ring first. */
export type Shape = Point[][][];

const MOST_LATITUDE = 85;

/** Return a longitude in -180..180. */
export function wrap(longitude: number): number {
  if (longitude >= -180 && longitude <= 180) return longitude;
  const turned = (((longitude + 180) % 360) + 360) % 360;
  return turned - 180;
}

/** Return a ring whose neighbors are never more than 180 degrees apart, closed. */
export function unwrapped(ring: Ring): Point[] {
  const found: Point[] = [];
  for (const [longitude, latitude] of ring) {
    const before = found.at(-1)?.[0] ?? longitude;
    found.push([longitude + 360 * Math.round((before - longitude) / 360), latitude]);
  }
  const first = found[0];
  const last = found.at(-1);
  if (first && last && (first[0] !== last[0] || first[1] !== last[1])) found.push([first[0], first[1]]);
  return found;
}

/** Return the corners of a box, closed; one that crosses the antimeridian goes on past 180. */
export function ringOfBox([west, south, east, north]: Box): Point[] {
  const right = east < west ? east + 360 : east;
  return [
    [west, south],
    [right, south],
    [right, north],
    [west, north],
    [west, south],
  ];
}

/** Return all parts of a footprint, or else its box; null where nothing is known of the place. */
export function shapeOf({ bbox, geometry }: { bbox?: Hit["bbox"]; geometry: Hit["geometry"] }): Shape | null {
  const given = geometry as unknown as GeoJSON.Polygon | GeoJSON.MultiPolygon | null;
  const polygons = given?.type === "Polygon" ? [given.coordinates] : given?.type === "MultiPolygon" ? given.coordinates : [];
  const rings = polygons.map((polygon) => polygon.map((ring) => unwrapped(ring as unknown as Ring))).filter((polygon) => polygon[0]?.length);
  const first = rings[0]?.[0];
  if (!first) return bbox ? [[ringOfBox(bbox)]] : null;
  const middle = middleOf(first)[0];
  // Halves that meet at the antimeridian lie side by side.
  return rings.map((polygon) => polygon.map((ring) => turned(ring, 360 * Math.round((middle - middleOf(ring)[0]) / 360))));
}

function turned(ring: Point[], by: number): Point[] {
  return by ? ring.map(([x, y]): Point => [x + by, y]) : ring;
}

/**
 * Return the outline of a shape as one ring: that of a single polygon, or of the halves that the
 * antimeridian cut a convex one into; null for other shapes.
 */
export function outlineOf(shape: Shape): Point[] | null {
  if (shape.length === 1) return shape[0]?.length === 1 ? (shape[0][0] ?? null) : null;
  const cut = (ring: Ring) => ring.filter(([x]) => Math.abs(x) === 180);
  if (shape.some((polygon) => polygon.length > 1 || cut(polygon[0] ?? []).length < 2)) return null;
  const corners = shape.flatMap((polygon) => (polygon[0] ?? []).slice(0, -1)).filter(([x]) => Math.abs(x) !== 180);
  const [x, y] = middleOf(corners);
  corners.sort((a, b) => Math.atan2(a[1] - y, a[0] - x) - Math.atan2(b[1] - y, b[0] - x));
  return corners[0] ? [...corners, corners[0]] : null;
}

/** Return the middle of the extent of points. */
export function middleOf(points: Ring): Point {
  const [west, south, east, north] = extentOfRing(points);
  return [(west + east) / 2, (south + north) / 2];
}

/** Return west, south, east, north of a ring; east may lie past 180. */
export function extentOfRing(ring: Ring): [number, number, number, number] {
  const across = ring.map((point) => point[0]);
  const along = ring.map((point) => point[1]);
  return [Math.min(...across), Math.min(...along), Math.max(...across), Math.max(...along)];
}

/**
 * Return the narrowest extent that holds all rings, whichever side of the antimeridian they lie on:
 * the widest gap between them stays outside. East may lie past 180.
 */
export function extentOf(rings: readonly Ring[]): [number, number, number, number] | null {
  if (!rings.length) return null;
  const boxes = rings.map(extentOfRing);
  const south = Math.min(...boxes.map((box) => box[1]));
  const north = Math.max(...boxes.map((box) => box[3]));
  const spans = boxes
    .map(([west, , east]): [number, number] => [wrap(west), wrap(west) + (east - west)])
    .sort((a, b) => a[0] - b[0]);
  const first = spans[0] as [number, number];
  let reach = first[1];
  // The gap after the last span goes around to the first one.
  let start = first[0];
  let widest = -1;
  for (const [west, east] of spans.slice(1)) {
    if (west - reach > widest) {
      widest = west - reach;
      start = west;
    }
    reach = Math.max(reach, east);
  }
  if (first[0] + 360 - reach >= widest) return [first[0], south, Math.min(reach, first[0] + 360), north];
  let end = start;
  for (const [west, east] of spans) end = Math.max(end, west < start ? east + 360 : east);
  return [start, south, Math.min(end, start + 360), north];
}

/** Return the box between two points of a drag, of which the longitudes may lie past 180. */
export function boxFromDrag(from: Point, to: Point): Box {
  const west = Math.min(from[0], to[0]);
  const east = Math.max(from[0], to[0]);
  const south = clampLatitude(Math.min(from[1], to[1]));
  const north = clampLatitude(Math.max(from[1], to[1]));
  if (east - west >= 360) return [-180, south, 180, north];
  return rounded([wrap(west), south, wrap(east), north]);
}

/** Return the box that is in view, given its sides. */
export function boxFromView(west: number, south: number, east: number, north: number): Box {
  return boxFromDrag([west, south], [east, north]);
}

/** Read a box that was typed in; what is wrong with it comes back as text. */
export function parseBox(texts: readonly [string, string, string, string]): Box | string {
  const names = ["West", "South", "East", "North"] as const;
  const found: number[] = [];
  for (const [i, text] of texts.entries()) {
    const value = text.trim() === "" ? Number.NaN : Number(text.trim().replace("−", "-"));
    const most = i % 2 ? 90 : 180;
    if (!(value >= -most && value <= most)) return `${names[i]}: enter degrees from -${most} to ${most}.`;
    found.push(value);
  }
  const [west, south, east, north] = found as [number, number, number, number];
  if (south > north) return "South is north of North; swap them.";
  if (west === east || south === north) return "The bounding box is empty; its edges must differ.";
  return [west, south, east, north];
}

/** Say a box in words. */
export function sayBox([west, south, east, north]: Box): string {
  const crossing = west > east ? ", across the 180th meridian" : "";
  return `${sayLongitude(west)} to ${sayLongitude(east)}, ${sayLatitude(south)} to ${sayLatitude(north)}${crossing}`;
}

export function sayLongitude(value: number, digits = 4): string {
  const at = wrap(value);
  return `${trimmed(Math.abs(at), digits)}°${Math.abs(at) % 180 === 0 ? "" : at < 0 ? " W" : " E"}`;
}

export function sayLatitude(value: number, digits = 4): string {
  return `${trimmed(Math.abs(value), digits)}°${value === 0 ? "" : value < 0 ? " S" : " N"}`;
}

/** Spacings of a graticule, degrees. */
const STEPS = [
  30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001,
];

/** Return the widest spacing that draws at least ``least`` lines over a span of degrees. */
export function graticuleStep(span: number, least = 4): number {
  return STEPS.find((step) => span / step >= least) ?? (STEPS.at(-1) as number);
}

/** Return the multiples of a step between two values. */
export function ticks(low: number, high: number, step: number): number[] {
  const found: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i++) found.push(Number((i * step).toFixed(6)));
  return found;
}

/** Return meridians and parallels over a view, a little beyond it. */
export function graticule(west: number, south: number, east: number, north: number): Point[][] {
  const step = graticuleStep(Math.max(east - west, 1e-4));
  const low = Math.max(-MOST_LATITUDE, south - step);
  const high = Math.min(MOST_LATITUDE, north + step);
  const meridians = ticks(west - step, east + step, step).map((x): Point[] => [
    [x, low],
    [x, high],
  ]);
  const parallels = ticks(low, high, step).map((y): Point[] => [
    [west - step, y],
    [east + step, y],
  ]);
  return [...meridians, ...parallels];
}

/** Return the zoom from which on a shape is at least ``pixels`` wide or high, as MapLibre counts it. */
export function zoomToSee(ring: Ring, pixels = 10): number {
  const [west, south, east, north] = extentOfRing(ring);
  const shrink = Math.max(0.05, Math.cos((((south + north) / 2) * Math.PI) / 180));
  const side = Math.max(east - west, (north - south) / shrink, 1e-7);
  return Math.log2((pixels * 360) / (512 * side));
}

/** A round length that is at most ``most`` pixels long on a map whose world is ``512 * 2 ** zoom`` wide. */
export function scaleBar(zoom: number, latitude: number, most = 110): { pixels: number; text: string } {
  const perPixel = (40_075_016.7 * Math.cos((latitude * Math.PI) / 180)) / (512 * 2 ** zoom);
  const limit = Math.max(perPixel * most, 1e-3);
  const power = 10 ** Math.floor(Math.log10(limit));
  const meters = ([5, 2, 1].find((n) => n * power <= limit) ?? 1) * power;
  const text = meters >= 1000 ? `${meters / 1000} km` : `${trimmed(meters, 3)} m`;
  return { pixels: meters / perPixel, text };
}

function clampLatitude(value: number): number {
  return Math.min(90, Math.max(-90, value));
}

/** Six digits are a tenth of a meter. */
function rounded(box: Box): Box {
  return box.map((value) => Number(value.toFixed(6))) as unknown as Box;
}

function trimmed(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}
