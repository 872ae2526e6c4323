/** MapLibre behind a few plain calls: what is shown goes in as data, what people do comes out as calls. */

import type * as GeoJSON from "geojson";
import { Map as MapLibre, setWorkerUrl, type ExpressionSpecification, type GeoJSONSource, type MapGeoJSONFeature, type PointLike } from "maplibre-gl";
// A file of its own from this server: the page's policy allows no worker made of a blob.
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import type { Box } from "../names";
import type { MapColors } from "./colors";
import { footprints, lines, middles, polygon, type Facts, type Placed } from "./features";
import { boxFromDrag, boxFromView, extentOf, graticule, graticuleStep, ringOfBox, scaleBar, ticks, type Point } from "./geometry";
import { styleOf } from "./style";

export interface ChartCalls {
  onPick(id: string | null): void;
  onHover(id: string | null): void;
  onDrawn(box: Box): void;
  /** The view changed. */
  onGrid(grid: Grid): void;
  onTrouble(): void;
  onReady(): void;
}

export interface Tick {
  readonly value: number;
  readonly at: number;
}

/** What helps to read the view. */
export interface Grid {
  /** Where meridians meet the top edge, in pixels. */
  readonly meridians: readonly Tick[];
  /** Where parallels meet the left edge. */
  readonly parallels: readonly Tick[];
  readonly scale: { readonly pixels: number; readonly text: string };
}

const REACH = 6;
const CLOSEST = 20;
const PADDING = 48;
const LEAST_DRAG = 4;
/** Pixels that a meridian's degrees take. */
const TICK_ROOM = 80;

export class Chart {
  private readonly map: MapLibre;
  private list: readonly Placed[] = [];
  private facts: readonly Facts[] = [];
  private box: Box | null = null;
  private from: { point: Point; x: number; y: number } | null = null;
  private drawing = false;
  private hovered: string | null = null;
  private selected: string | null = null;
  private pointed: string | null = null;
  private ready = false;

  constructor(
    private readonly holder: HTMLElement,
    colors: MapColors,
    basemap: string | null,
    private readonly calls: ChartCalls,
  ) {
    setWorkerUrl(new URL(workerUrl, import.meta.url).href);
    this.map = new MapLibre({
      container: holder,
      style: styleOf(colors, basemap),
      center: [0, 20],
      zoom: 0.5,
      maxZoom: CLOSEST,
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      attributionControl: false,
      canvasContextAttributes: { antialias: true },
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    this.map.boxZoom.disable();
    this.map.on("load", () => {
      this.ready = true;
      this.draw();
      this.drawGrid();
      this.map.once("idle", () => this.calls.onReady());
    });
    this.map.on("move", () => this.tellGrid());
    this.map.on("moveend", () => this.drawGrid());
    this.map.on("resize", () => this.drawGrid());
    this.map.on("error", (event) => {
      if ("sourceId" in event && event.sourceId === "basemap") this.calls.onTrouble();
      else console.error(event.error);
    });
    this.map.on("mousemove", (event) => this.hover(event.point));
    this.map.on("mouseout", () => this.hover(null));
    this.map.on("click", (event) => !this.drawing && this.calls.onPick(this.idAt(event.point)));
    const canvas = this.map.getCanvasContainer();
    canvas.addEventListener("pointerdown", this.begin);
    canvas.addEventListener("pointermove", this.drag);
    canvas.addEventListener("pointerup", this.end);
    canvas.addEventListener("pointercancel", this.cancel);
  }

  setHits(list: readonly Placed[], facts: readonly Facts[]): void {
    this.list = list;
    this.facts = facts;
    this.draw();
  }

  setBox(box: Box | null): void {
    this.box = box;
    this.draw();
  }

  /** Outline one hit as open, and one as pointed at. */
  setMarked(selected: string | null, hovered: string | null): void {
    this.selected = selected;
    this.pointed = hovered;
    if (!this.ready) return;
    const small: ExpressionSpecification = [">=", ["get", "seen"], this.map.getZoom()];
    for (const [layer, id] of [
      ["selected", selected],
      ["pointed", hovered],
    ] as const) {
      const own: ExpressionSpecification = ["==", ["get", "id"], id ?? ""];
      this.map.setFilter(layer, own);
      this.map.setFilter(`${layer}-dot`, ["all", own, small]);
    }
    this.map.setFilter("dots", small);
  }

  /** Draw a box with the next drag, instead of moving the map. */
  setDrawing(drawing: boolean): void {
    this.drawing = drawing;
    this.from = null;
    this.holder.classList.toggle("map-drawing", drawing);
    const { dragPan, touchZoomRotate } = this.map;
    if (drawing) dragPan.disable();
    else dragPan.enable();
    if (drawing) touchZoomRotate.disable();
    else touchZoomRotate.enable();
    touchZoomRotate.disableRotation();
    this.draw();
  }

  /** Show all hits, and the box; without either the whole earth. */
  fit(calm = true): void {
    const rings = this.list.map((one) => one.ring);
    if (this.box) rings.push(ringOfBox(this.box));
    this.show(extentOf(rings) ?? [-170, -60, 170, 75], calm);
  }

  /** Bring one hit into view, if it is not there. */
  reveal(id: string): void {
    const one = this.list.find((each) => each.hit.id === id);
    if (!one) return;
    const extent = extentOf([one.ring]);
    if (!extent || this.sees(extent)) return;
    this.map.easeTo({ center: [(extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2] });
  }

  /** Show all hits if some lie outside the view, or all of them in a small spot of it. */
  fitIfNeeded(): void {
    const extent = extentOf(this.list.map((one) => one.ring));
    if (!extent) return;
    const bounds = this.map.getBounds();
    const wide = bounds.getEast() - bounds.getWest();
    const high = bounds.getNorth() - bounds.getSouth();
    const share = Math.max((extent[2] - extent[0]) / wide, (extent[3] - extent[1]) / high);
    if (!this.sees(extent) || share < 0.15) this.fit();
  }

  zoom(by: 1 | -1): void {
    if (by > 0) this.map.zoomIn();
    else this.map.zoomOut();
  }

  view(): Box {
    const bounds = this.map.getBounds();
    return boxFromView(bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth());
  }

  remove(): void {
    this.map.remove();
  }

  private show([west, south, east, north]: readonly [number, number, number, number], calm: boolean): void {
    this.map.fitBounds([west, south, east, north], { padding: PADDING, maxZoom: 17, animate: !calm });
  }

  private sees([west, south, east, north]: readonly [number, number, number, number]): boolean {
    const bounds = this.map.getBounds();
    const turn = 360 * Math.round((this.map.getCenter().lng - (west + east) / 2) / 360);
    return (
      west + turn >= bounds.getWest() &&
      east + turn <= bounds.getEast() &&
      south >= bounds.getSouth() &&
      north <= bounds.getNorth()
    );
  }

  private draw(): void {
    if (!this.ready) return;
    this.put("footprints", footprints(this.list, this.facts));
    this.put("middles", middles(this.list, this.facts));
    this.put("box", polygon(this.box && ringOfBox(this.box)));
    this.setMarked(this.selected, this.pointed);
  }

  private put(source: string, data: GeoJSON.FeatureCollection): void {
    this.map.getSource<GeoJSONSource>(source)?.setData(data);
  }

  private drawGrid(): void {
    if (!this.ready) return;
    const bounds = this.map.getBounds();
    this.put("grid", lines(graticule(bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth())));
    this.setMarked(this.selected, this.pointed);
    this.tellGrid();
  }

  private tellGrid(): void {
    const bounds = this.map.getBounds();
    const [west, east] = [bounds.getWest(), bounds.getEast()];
    const [south, north] = [Math.max(-85, bounds.getSouth()), Math.min(85, bounds.getNorth())];
    const step = graticuleStep(Math.max(east - west, 1e-4));
    // Lines may be closer together than their labels.
    const wide = this.map.getCanvas().clientWidth;
    const apart = (wide * step) / Math.max(east - west, 1e-9);
    this.calls.onGrid({
      meridians: ticks(west, east, step * Math.ceil(TICK_ROOM / apart))
        .map((value) => ({ value, at: this.map.project([value, north]).x }))
        .filter(({ at }) => Math.abs(at - wide / 2) < (wide - TICK_ROOM) / 2),
      parallels: ticks(south, north, step).map((value) => ({ value, at: this.map.project([west, value]).y })),
      scale: scaleBar(this.map.getZoom(), this.map.getCenter().lat),
    });
  }

  private hover(point: { x: number; y: number } | null): void {
    const id = point && !this.drawing ? this.idAt(point) : null;
    if (id === this.hovered) return;
    this.hovered = id;
    this.map.getCanvas().style.cursor = id ? "pointer" : "";
    this.calls.onHover(id);
  }

  private idAt({ x, y }: { x: number; y: number }): string | null {
    if (!this.ready) return null;
    const around: [PointLike, PointLike] = [
      [x - REACH, y - REACH],
      [x + REACH, y + REACH],
    ];
    const at = (where: PointLike | [PointLike, PointLike]) =>
      this.map.queryRenderedFeatures(where, { layers: ["fill", "dots"] });
    const found: MapGeoJSONFeature[] = at([x, y]);
    if (!found.length) found.push(...at(around));
    const best = found.sort((a, b) => Number(a.properties.rank) - Number(b.properties.rank))[0];
    return best ? String(best.properties.id) : null;
  }

  private place(event: PointerEvent): { point: Point; x: number; y: number } {
    const frame = this.map.getCanvas().getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const { lng, lat } = this.map.unproject([x, y]);
    return { point: [lng, lat], x, y };
  }

  private readonly begin = (event: PointerEvent): void => {
    if (!this.drawing || event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    this.from = this.place(event);
  };

  private readonly drag = (event: PointerEvent): void => {
    if (!this.from || !event.isPrimary) return;
    this.put("box", polygon(ringOfBox(boxFromDrag(this.from.point, this.place(event).point))));
  };

  private readonly end = (event: PointerEvent): void => {
    if (!this.from || !event.isPrimary) return;
    const [start, stop] = [this.from, this.place(event)];
    this.from = null;
    if (Math.min(Math.abs(stop.x - start.x), Math.abs(stop.y - start.y)) < LEAST_DRAG) this.draw();
    else this.calls.onDrawn(boxFromDrag(start.point, stop.point));
  };

  private readonly cancel = (): void => {
    this.from = null;
    this.draw();
  };
}
