/** MapLibre behind a few plain calls: what is shown goes in as data, what people do comes out as calls. */

import type * as GeoJSON from "geojson";
import { Map as MapLibre, setWorkerUrl, type ExpressionSpecification, type GeoJSONSource, type MapGeoJSONFeature, type PointLike } from "maplibre-gl";
// A file of its own from this server: the page's policy allows no worker made of a blob.
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import type { Box } from "../names";
import type { MapColors } from "./colors";
import { footprints, lines, middles, polygons, sketch, type Facts, type Placed } from "./features";
import { boxFromDrag, boxFromView, extentOf, graticule, graticuleStep, outlineOf, ringOfBox, scaleBar, ticks, zoomToSee, type Point, type Ring, type Shape } from "./geometry";
import { areaShapes, clusterPoints, imageCorners, type Drawn } from "./places";
import { closedPolygon, type Rings } from "./polygon";
import { ABOVE_THUMBNAILS, styleOf } from "./style";
import { worldAt } from "./world";

export interface ChartCalls {
  onPick(id: string | null): void;
  onHover(id: string | null): void;
  onDrawn(box: Box): void;
  onPolygon(rings: Rings): void;
  /** The map came to rest. */
  onView(box: Box, zoom: number): void;
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

/** What a drag or clicks draw. */
export type Drawing = "box" | "polygon" | null;

/** Where images of the map come from. */
export interface Images {
  thumbnail(id: string): string;
  headers(): Record<string, string>;
}

const HITS = ["fill", "outline", "dots"];
const REACH = 6;
/** Pixels from which on a footprint shows its thumbnail, and how many do. */
const PAINTED = 44;
const MOST_PAINTED = 80;
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
  private polygon: Rings | null = null;
  private drawn: Drawn | null = null;
  private hitsShown = true;
  private painted = new Set<string>();
  private corners: Point[] = [];
  private fineWorld: boolean | null = null;
  private drawing: Drawing = null;
  private hovered: string | null = null;
  private selected: string | null = null;
  private pointed: string | null = null;
  private ready = false;

  constructor(
    private readonly holder: HTMLElement,
    colors: MapColors,
    private readonly basemap: string | null,
    private readonly images: Images,
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
      // The token of the service is for the service alone.
      transformRequest: (url) => (url.startsWith(`${location.origin}/`) ? { url, headers: images.headers() } : { url }),
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    this.map.boxZoom.disable();
    this.map.on("load", () => {
      this.ready = true;
      this.draw();
      this.setPlaces(this.drawn, this.hitsShown);
      this.drawGrid();
      this.rest();
      this.map.once("idle", () => this.calls.onReady());
    });
    this.map.on("move", () => this.tellGrid());
    this.map.on("moveend", () => {
      this.drawGrid();
      this.rest();
    });
    this.map.setMissingStyleImageResolver((name) => this.addCount(name));
    this.map.on("resize", () => this.drawGrid());
    this.map.on("error", (event) => {
      if ("sourceId" in event && event.sourceId === "basemap") this.calls.onTrouble();
      else if (!("sourceId" in event && String(event.sourceId).startsWith("thumb "))) console.error(event.error);
    });
    this.map.on("mousemove", (event) => this.hover(event.point));
    this.map.on("mouseout", () => this.hover(null));
    this.map.on("click", (event) => this.click(event.point, [event.lngLat.lng, event.lngLat.lat]));
    this.map.on("dblclick", (event) => {
      if (this.drawing !== "polygon") return;
      event.preventDefault();
      this.finish();
    });
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

  setArea(box: Box | null, polygon: Rings | null): void {
    [this.box, this.polygon] = [box, polygon];
    this.draw();
  }

  /** Show all records that pass, or none; hits may be shown besides. */
  setPlaces(drawn: Drawn | null, hitsShown: boolean): void {
    [this.drawn, this.hitsShown] = [drawn, hitsShown];
    if (!this.ready) return;
    const nothing: Drawn = { areas: [], clusters: [], scores: null };
    const { shapes, middles } = areaShapes(drawn ?? nothing);
    this.put("areas", shapes);
    this.put("area-middles", middles);
    this.put("clusters", clusterPoints(drawn ?? nothing));
    for (const layer of HITS) this.map.setLayoutProperty(layer, "visibility", hitsShown ? "visible" : "none");
    this.paintThumbnails();
  }

  /** End a polygon at its last corner. */
  finish(): void {
    const rings = closedPolygon(this.corners);
    this.corners = [];
    this.draw();
    if (rings) this.calls.onPolygon(rings);
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
    this.map.setFilter("area-dots", small);
  }

  /** Draw a box with the next drag, or a polygon with clicks, instead of moving the map. */
  setDrawing(drawing: Drawing): void {
    this.drawing = drawing;
    this.from = null;
    this.corners = [];
    this.holder.classList.toggle("map-drawing", drawing !== null);
    const { dragPan, touchZoomRotate, doubleClickZoom } = this.map;
    if (drawing) dragPan.disable();
    else dragPan.enable();
    if (drawing === "polygon") doubleClickZoom.disable();
    else doubleClickZoom.enable();
    if (drawing) touchZoomRotate.disable();
    else touchZoomRotate.enable();
    touchZoomRotate.disableRotation();
    this.draw();
  }

  /** Show all hits, and the area searched; without either the extent given, or the whole earth. */
  fit(calm = true, extent: Box | null = null): void {
    const rings: Ring[] = this.list.map((one) => one.points);
    if (this.box) rings.push(ringOfBox(this.box));
    if (this.polygon?.[0]) rings.push(this.polygon[0].map(([x, y]): Point => [x, y]));
    if (!this.hitsShown && extent) rings.splice(0, rings.length, ringOfBox(extent));
    this.show(extentOf(rings) ?? [-170, -60, 170, 75], calm);
    // What is in view can be fetched while the map is still loading.
    if (!this.ready) this.tellView();
  }

  /** Bring one hit into view, if it is not there. */
  reveal(id: string): void {
    const one = this.list.find((each) => each.hit.id === id);
    if (!one) return;
    const extent = extentOf([one.points]);
    if (!extent || this.sees(extent)) return;
    this.map.easeTo({ center: [(extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2] });
  }

  /** Show all hits if some lie outside the view, or all of them in a small spot of it. */
  fitIfNeeded(): void {
    const extent = extentOf(this.list.map((one) => one.points));
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
    // The latitudes are written at the left.
    this.map.fitBounds([west, south, east, north], { padding: { top: PADDING, right: PADDING, bottom: PADDING, left: 1.5 * PADDING }, maxZoom: 17, animate: !calm });
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
    this.put("box", polygons([...(this.box ? [[ringOfBox(this.box)]] : []), ...(this.polygon ? [this.polygon] : [])]));
    this.put("sketch", sketch(this.corners));
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
    const { clientWidth: wide, clientHeight: high } = this.map.getCanvas();
    const apart = (wide * step) / Math.max(east - west, 1e-9);
    this.calls.onGrid({
      meridians: ticks(west, east, step * Math.ceil(TICK_ROOM / apart))
        .map((value) => ({ value, at: this.map.project([value, north]).x }))
        .filter(({ at }) => Math.abs(at - wide / 2) < (wide - TICK_ROOM) / 2),
      parallels: ticks(south, north, step)
        .map((value) => ({ value, at: this.map.project([west, value]).y }))
        // Those of meridians are at the top, the scale is at the bottom.
        .filter(({ at }) => at > 28 && at < high - 48),
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
      this.map.queryRenderedFeatures(where, { layers: [...(this.hitsShown ? ["fill", "dots"] : []), "area-fill", "area-dots"] });
    const found: MapGeoJSONFeature[] = at([x, y]);
    if (!found.length) found.push(...at(around));
    const best = found.sort((a, b) => Number(a.properties.rank) - Number(b.properties.rank))[0];
    return best ? String(best.properties.id) : null;
  }

  private click({ x, y }: { x: number; y: number }, point: Point): void {
    if (this.drawing === "box") return;
    if (this.drawing === "polygon") {
      const first = this.corners[0] && this.map.project(this.corners[0]);
      if (first && this.corners.length > 2 && Math.hypot(first.x - x, first.y - y) < 2 * REACH) return this.finish();
      const last = this.corners.at(-1) && this.map.project(this.corners.at(-1) as Point);
      // The second click of two ends the polygon, and is no corner of its own.
      if (!last || Math.hypot(last.x - x, last.y - y) > LEAST_DRAG) this.corners.push(point);
      return this.put("sketch", sketch(this.corners));
    }
    const at = this.ready ? this.map.queryRenderedFeatures([x, y], { layers: ["clusters"] })[0] : undefined;
    const cluster = at && this.drawn?.clusters[Number(at.properties.place)];
    if (!cluster) return this.calls.onPick(this.idAt({ x, y }));
    const [west, south, east, north] = cluster.bbox;
    const close = Math.max(east - west, north - south) < 1e-5;
    if (close) this.map.easeTo({ center: [cluster.longitude, cluster.latitude], zoom: Math.min(CLOSEST, this.map.getZoom() + 3) });
    else this.show([west, south, east, north], false);
  }

  private tellView(): void {
    // The world of zoom 0 is two tiles of 256 pixels wide here.
    this.calls.onView(this.view(), Math.max(0, Math.min(24, Math.floor(this.map.getZoom()) + 1)));
  }

  /** After a move: fetch what the new view needs. */
  private rest(): void {
    if (!this.ready) return;
    this.tellView();
    this.paintThumbnails();
    const fine = this.map.getZoom() >= 2.5;
    if (this.basemap || this.fineWorld === true || this.fineWorld === fine) return;
    this.fineWorld = fine;
    worldAt(this.map.getZoom()).then(
      ({ land, borders }) => {
        if (!this.map.getSource("land") || this.fineWorld !== fine) return;
        this.put("land", land);
        this.put("borders", borders);
      },
      // The map can be read without; the next move tries again.
      () => (this.fineWorld = null),
    );
  }

  /** Paint thumbnails on the footprints in view that are large enough. */
  private paintThumbnails(): void {
    if (!this.ready) return;
    const zoom = this.map.getZoom();
    const known = new Map<string, Shape>();
    for (const { hit, shape } of this.hitsShown ? this.list : []) known.set(hit.id, shape);
    for (const { id, shape } of this.drawn?.areas ?? []) known.set(id, shape);
    const wanted = new Map<string, [Point, Point, Point, Point]>();
    for (const [id, shape] of known) {
      if (wanted.size >= MOST_PAINTED) break;
      const ring = outlineOf(shape);
      const corners = ring && zoomToSee(ring, PAINTED) <= zoom ? imageCorners(ring) : null;
      if (ring && corners && this.meets(ring)) wanted.set(id, corners);
    }
    for (const id of [...this.painted].filter((one) => !wanted.has(one))) {
      this.map.removeLayer(`thumb ${id}`);
      this.map.removeSource(`thumb ${id}`);
      this.painted.delete(id);
    }
    for (const [id, coordinates] of wanted) {
      if (this.painted.has(id)) continue;
      const url = new URL(this.images.thumbnail(id), location.href).href;
      this.map.addSource(`thumb ${id}`, { type: "image", url, coordinates });
      const layer = { id: `thumb ${id}`, type: "raster", source: `thumb ${id}`, paint: { "raster-fade-duration": 0 } } as const;
      this.map.addLayer(layer, ABOVE_THUMBNAILS);
      this.painted.add(id);
    }
  }

  private meets(ring: Ring): boolean {
    const extent = extentOf([ring]);
    if (!extent) return false;
    const bounds = this.map.getBounds();
    const turn = 360 * Math.round((this.map.getCenter().lng - (extent[0] + extent[2]) / 2) / 360);
    return (
      extent[0] + turn <= bounds.getEast() &&
      extent[2] + turn >= bounds.getWest() &&
      extent[1] <= bounds.getNorth() &&
      extent[3] >= bounds.getSouth()
    );
  }

  /** Draw the count of a cluster as an image; its name is the text and the color below it. */
  private addCount(name: string): void {
    const [text, color] = name.split(" ");
    const context = document.createElement("canvas").getContext("2d");
    if (!text || !color || !context || this.map.hasImage(name)) return;
    const scale = 2;
    const font = `600 ${12 * scale}px system-ui, sans-serif`;
    context.font = font;
    const [width, height] = [Math.ceil(context.measureText(text).width) + 2 * scale, 16 * scale];
    [context.canvas.width, context.canvas.height] = [width, height];
    const [red, green, blue] = [1, 3, 5].map((i) => Number.parseInt(color.slice(i, i + 2), 16)) as [number, number, number];
    Object.assign(context, { font, textAlign: "center", textBaseline: "middle" });
    context.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#17212b" : "#ffffff";
    context.fillText(text, width / 2, height / 2 + scale / 2);
    this.map.addImage(name, context.getImageData(0, 0, width, height), { pixelRatio: scale });
  }

  private place(event: PointerEvent): { point: Point; x: number; y: number } {
    const frame = this.map.getCanvas().getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const { lng, lat } = this.map.unproject([x, y]);
    return { point: [lng, lat], x, y };
  }

  private readonly begin = (event: PointerEvent): void => {
    if (this.drawing !== "box" || event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    this.from = this.place(event);
  };

  private readonly drag = (event: PointerEvent): void => {
    if (this.drawing === "polygon" && this.corners.length) this.put("sketch", sketch(this.corners, this.place(event).point));
    if (!this.from || !event.isPrimary) return;
    this.put("box", polygons([[ringOfBox(boxFromDrag(this.from.point, this.place(event).point))]]));
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
