/** What the map looks like: paper, a graticule, perhaps tiles below it, footprints on top. */

import type { FilterSpecification, LayerSpecification, SourceSpecification, StyleSpecification } from "maplibre-gl";
import type { MapColors } from "./colors";

const NOTHING: FilterSpecification = ["==", ["get", "id"], ""];

const EMPTY: SourceSpecification = { type: "geojson", data: { type: "FeatureCollection", features: [] } };

export function styleOf(colors: MapColors, basemap: string | null): StyleSpecification {
  const sources: StyleSpecification["sources"] = {
    grid: EMPTY,
    box: EMPTY,
    footprints: EMPTY,
    middles: EMPTY,
  };
  const layers: LayerSpecification[] = [
    { id: "paper", type: "background", paint: { "background-color": colors.paper } },
  ];
  if (basemap) {
    // As a URL, so that one of this server has its origin; its placeholders stay as they are.
    const tiles = new URL(basemap, location.href).href.replaceAll("%7B", "{").replaceAll("%7D", "}");
    sources.basemap = { type: "raster", tiles: [tiles], tileSize: 256, maxzoom: 19 };
    layers.push({ id: "basemap", type: "raster", source: "basemap" });
  }
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
      id: "fill",
      type: "fill",
      source: "footprints",
      paint: { "fill-color": ["get", "color"], "fill-opacity": basemap ? 0.55 : 0.8 },
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
    ...ring("pointed", colors.ink, 2),
    ...ring("selected", colors.ink, 3.5),
  );
  return { version: 8, sources, layers };
}
