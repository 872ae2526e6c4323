/** Polygons that filter: read from GeoJSON, kept in the address, drawn corner by corner. */

import type { Point } from "./geometry";

/** Rings of a polygon in degrees, the outer one first; each is closed. */
export type Rings = readonly (readonly Readonly<Point>[])[];

export const MOST_CORNERS = 500;

/** Read a polygon from GeoJSON; what is wrong with it comes back as text. */
export function readPolygon(text: string): Rings | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "This is not GeoJSON.";
  }
  const found = polygonsOf(value);
  if (!found.length) return "The GeoJSON holds no polygon.";
  if (found.length > 1) return `The GeoJSON holds ${found.length} polygons. Use one.`;
  return checked(found[0]);
}

function polygonsOf(value: unknown): unknown[] {
  if (typeof value !== "object" || value === null) return [];
  const one = value as Record<string, unknown>;
  const many = (given: unknown) => (Array.isArray(given) ? given : []);
  switch (one.type) {
    case "FeatureCollection":
      return many(one.features).flatMap(polygonsOf);
    case "Feature":
      return polygonsOf(one.geometry);
    case "GeometryCollection":
      return many(one.geometries).flatMap(polygonsOf);
    case "Polygon":
      return [one.coordinates];
    case "MultiPolygon":
      return many(one.coordinates);
    default:
      return [];
  }
}

function checked(given: unknown): Rings | string {
  if (!Array.isArray(given) || !given.length) return "The polygon has no corners.";
  const rings: Point[][] = [];
  for (const ring of given) {
    if (!Array.isArray(ring) || ring.length < 4) return "A ring of the polygon has fewer than three corners.";
    const points = ring.map((point): Point => (Array.isArray(point) ? [Number(point[0]), Number(point[1])] : [NaN, NaN]));
    const wrong = points.find(([x, y]) => !(Math.abs(x) <= 360 && Math.abs(y) <= 90));
    if (wrong) return "Coordinates must be longitude and latitude in degrees (EPSG:4326).";
    rings.push(points.map(([x, y]): Point => [Number(x.toFixed(6)), Number(y.toFixed(6))]));
  }
  const corners = rings.reduce((sum, ring) => sum + ring.length - 1, 0);
  if (corners > MOST_CORNERS) return `The polygon has ${corners.toLocaleString("en")} corners. Simplify it to ${MOST_CORNERS} or fewer.`;
  return rings;
}

/** Close corners that were clicked; null for fewer than three. */
export function closedPolygon(corners: readonly Readonly<Point>[]): Rings | null {
  if (corners.length < 3) return null;
  const points = corners.map(([x, y]): Point => [Number(x.toFixed(6)), Number(Math.max(-90, Math.min(90, y)).toFixed(6))]);
  return [[...points, points[0] as Point]];
}

/** Write rings for an address: lon,lat,lon,lat;… */
export function polygonText(rings: Rings): string {
  return rings.map((ring) => ring.slice(0, -1).flat().join(",")).join(";");
}

/** Read rings of an address; null where they are none. */
export function readPolygonText(text: string | null): Rings | null {
  if (!text) return null;
  const rings = text.split(";").map((part) => {
    const numbers = part.split(",").map((one) => (one.trim() ? Number(one) : NaN));
    if (numbers.length < 6 || numbers.length % 2) return [];
    const points: Point[] = [];
    for (let i = 0; i < numbers.length; i += 2) points.push([numbers[i] as number, numbers[i + 1] as number]);
    return [...points, points[0] as Point];
  });
  const found = checked(rings);
  return typeof found === "string" ? null : found;
}

export function cornersOf(rings: Rings): number {
  return rings.reduce((sum, ring) => sum + ring.length - 1, 0);
}
