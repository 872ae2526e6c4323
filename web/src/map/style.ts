/** What the map looks like: paper, a graticule, perhaps tiles below it, footprints on top. */

import type { ExpressionSpecification, FilterSpecification, LayerSpecification, SourceSpecification, StyleSpecification } from "maplibre-gl";
import type { MapColors } from "./colors";

export const ABOVE_THUMBNAILS = "area-line";

const NOTHING: FilterSpecification = ["==", ["get", "id"], ""];

const EMPTY: SourceSpecification = { type: "geojson", data: { type: "FeatureCollection", features: [] } };

export function styleOf(colors: MapColors, basemap: string | null): StyleSpecification {
  const sources: StyleSpecification["sources"] = {
    land: EMPTY,
    borders: EMPTY,
    grid: EMPTY,
    box: EMPTY,
    sketch: EMPTY,
    areas: EMPTY,
    "area-middles": EMPTY,
    clusters: EMPTY,
    footprints: EMPTY,
    middles: EMPTY,
  };
  const layers: LayerSpecification[] = [
    {
      id: "paper",
      type: "background",
      // Water around the land, and neither where the land is not drawn any more.
      paint: { "background-color": basemap ? colors.land : ["interpolate", ["linear"], ["zoom"], 8, colors.water, 10, colors.land] },
    },
  ];
  if (basemap) {
    // As a URL, so that one of this server has its origin; its placeholders stay as they are.
    const tiles = new URL(basemap, location.href).href.replaceAll("%7B", "{").replaceAll("%7D", "}");
    sources.basemap = { type: "raster", tiles: [tiles], tileSize: 256, maxzoom: 19 };
    layers.push({ id: "basemap", type: "raster", source: "basemap" });
  }
  // Outlines of 1:50 million say nothing at the scale of a town.
  const fading: ExpressionSpecification = ["interpolate", ["linear"], ["zoom"], 8, 1, 10, 0];
  if (!basemap)
    layers.push(
      { id: "land", type: "fill", source: "land", maxzoom: 10, paint: { "fill-color": colors.land, "fill-opacity": fading } },
      {
        id: "borders",
        type: "line",
        source: "borders",
        maxzoom: 10,
        paint: { "line-color": colors.border, "line-width": 0.8, "line-opacity": fading },
      },
    );
  const ring = (id: string, color: string, width: number): LayerSpecification[] => [
    { id, type: "line", source: "footprints", filter: NOTHING, paint: { "line-color": color, "line-width": width } },
    {
      id: `${id}-dot`,
      type: "circle",
      source: "middles",
      filter: NOTHING,
      paint: {
        "circle-radius": 9,
        "circle-opacity": 0,
        "circle-stroke-color": color,
        "circle-stroke-width": width,
      },
    },
  ];
  layers.push(
    {
      id: "grid",
      type: "line",
      source: "grid",
      paint: { "line-color": colors.grid, "line-width": 1, "line-opacity": basemap ? 0.5 : 1 },
    },
    { id: "box-fill", type: "fill", source: "box", paint: { "fill-color": colors.box, "fill-opacity": 0.08 } },
    {
      id: "box-line",
      type: "line",
      source: "box",
      paint: { "line-color": colors.box, "line-width": 2, "line-dasharray": [3, 2] },
    },
    {
      id: "area-fill",
      type: "fill",
      source: "areas",
      paint: { "fill-color": ["get", "color"], "fill-opacity": basemap ? 0.4 : 0.6 },
    },
    {
      id: "fill",
      type: "fill",
      source: "footprints",
      paint: { "fill-color": ["get", "color"], "fill-opacity": basemap ? 0.55 : 0.8 },
    },
    // Thumbnails are inserted below this one.
    {
      id: ABOVE_THUMBNAILS,
      type: "line",
      source: "areas",
      paint: { "line-color": ["get", "color"], "line-width": 1.25 },
    },
    {
      id: "area-dots",
      type: "circle",
      source: "area-middles",
      paint: { "circle-radius": 4.5, "circle-color": ["get", "color"], "circle-stroke-color": colors.halo, "circle-stroke-width": 1 },
    },
    {
      id: "clusters",
      type: "circle",
      source: "clusters",
      paint: {
        "circle-radius": ["get", "radius"],
        "circle-color": ["get", "color"],
        "circle-opacity": 0.92,
        "circle-stroke-color": colors.halo,
        "circle-stroke-width": 1.5,
      },
    },
    {
      id: "cluster-counts",
      type: "symbol",
      source: "clusters",
      // Images made of text as they are needed: fonts of a map would be files of their own.
      layout: { "icon-image": ["get", "text"], "icon-allow-overlap": true, "icon-ignore-placement": true },
    },
    {
      id: "outline",
      type: "line",
      source: "footprints",
      paint: { "line-color": ["get", "color"], "line-width": 1.25 },
    },
    {
      id: "dots",
      type: "circle",
      source: "middles",
      paint: {
        "circle-radius": 5,
        "circle-color": ["get", "color"],
        "circle-stroke-color": colors.halo,
        "circle-stroke-width": 1.25,
      },
    },
    {
      id: "good",
      type: "line",
      source: "footprints",
      filter: ["==", ["get", "mark"], 1],
      paint: { "line-color": colors.good, "line-width": 3 },
    },
    {
      id: "bad",
      type: "line",
      source: "footprints",
      filter: ["==", ["get", "mark"], -1],
      paint: { "line-color": colors.bad, "line-width": 3, "line-dasharray": [1.5, 1] },
    },
    { id: "sketch-line", type: "line", source: "sketch", paint: { "line-color": colors.box, "line-width": 2 } },
    {
      id: "sketch-corners",
      type: "circle",
      source: "sketch",
      filter: ["==", ["geometry-type"], "Point"],
      paint: { "circle-radius": 4, "circle-color": colors.halo, "circle-stroke-color": colors.box, "circle-stroke-width": 2 },
    },
    ...ring("pointed", colors.ink, 2),
    ...ring("selected", colors.ink, 3.5),
  );
  return { version: 8, sources, layers };
}
