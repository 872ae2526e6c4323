/** Land and borders of Natural Earth, fetched when a map without tiles is first shown. */

import type * as GeoJSON from "geojson";
import { feature, mesh } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import fine from "world-atlas/countries-50m.json?url";
import { unwrapped, type Point } from "./geometry";
import coarse from "world-atlas/countries-110m.json?url";

export interface World {
  readonly land: GeoJSON.FeatureCollection;
  readonly borders: GeoJSON.FeatureCollection;
}

type Atlas = Topology<{ countries: GeometryCollection; land: GeometryCollection }>;

/** From this zoom on the coarse outlines are replaced by those of 1:50 million. */
export const FINE_ZOOM = 2.5;
export const WORLD_CREDIT = "Land and borders: Natural Earth";

const known = new Map<string, Promise<World>>();

/** Return the outlines for a zoom; a failed download is tried again at the next call. */
export function worldAt(zoom: number): Promise<World> {
  const url = new URL(zoom < FINE_ZOOM ? coarse : fine, import.meta.url).href;
  let found = known.get(url);
  if (!found) {
    found = fetch(url).then(async (answer) => {
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      return outlines((await answer.json()) as Atlas);
    });
    found.catch(() => known.delete(url));
    known.set(url, found);
  }
  return found;
}

/** Convert a topology of countries to land, and to the borders between two countries. */
export function outlines(atlas: Atlas): World {
  const borders = mesh(atlas, atlas.objects.countries, (a, b) => a !== b);
  return {
    land: flattened(feature(atlas, atlas.objects.land)),
    borders: { type: "FeatureCollection", features: [{ type: "Feature", geometry: borders, properties: {} }] },
  };
}

/** Lay polygons of a sphere on a plane: across the antimeridian they go on, around the pole they reach it. */
function flattened(given: GeoJSON.FeatureCollection): GeoJSON.FeatureCollection {
  const polygons = given.features.flatMap(({ geometry }) =>
    geometry.type === "MultiPolygon" ? geometry.coordinates : geometry.type === "Polygon" ? [geometry.coordinates] : [],
  );
  const rings = (polygon: GeoJSON.Position[][]) =>
    polygon.map((ring) => {
      const open = ring.slice(0, -1) as Point[];
      const points = unwrapped(open).slice(0, -1);
      const [first, last] = [points[0] as Point, points.at(-1) as Point];
      const turn = 360 * Math.round((last[0] - first[0]) / 360);
      if (!turn) return [...points, first];
      // Antarctica: all the way around, and back along the pole.
      return [...points, [first[0] + turn, first[1]], [first[0] + turn, -90], [first[0], -90], first];
    });
  const geometry: GeoJSON.MultiPolygon = { type: "MultiPolygon", coordinates: polygons.map(rings) };
  return { type: "FeatureCollection", features: [{ type: "Feature", geometry, properties: {} }] };
}
