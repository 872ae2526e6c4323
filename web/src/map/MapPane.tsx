import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, nearness } from "../search/why";
import { Sharp } from "../Sharp";
import { about, api, archiveName, notify, pointed } from "../store";
import type { Box } from "../names";
import { BoxFields } from "./BoxFields";
import { Chart, type Drawing, type Grid } from "./chart";
import { DARK, LIGHT } from "./colors";
import { factsOf, placed, sayCredit, describeMissing } from "./features";
import { sayBox, sayLatitude, sayLongitude } from "./geometry";
import "./map.css";
import { MapLegend } from "./MapLegend";
import { drawnOf, type Area, type Paint } from "./places";
import { cornersOf, MOST_CORNERS } from "./polygon";
import type { MapProps } from "./props";
import { usePlaces, type View } from "./usePlaces";
import { WORLD_CREDIT } from "./world";

/** The map of results. It draws without any tile server; everything it does has a button or a field too. */
export default function MapPane(props: MapProps) {
  const { hits, mode, selected, box, polygon, basemap, dark, positives, negatives } = props;
  const holder = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  const calls = useRef(props);
  calls.current = props;
  const [drawing, setDrawing] = useState<Drawing>(null);
  const [view, setView] = useState<View | null>(null);
  const [everything, setEverything] = useState(props.everything);
  const [label, setLabel] = useState<string | null>(null);
  // The record that was clicked and is no hit of the page.
  const [picked, setPicked] = useState<string | null>(null);
  const [broken, setBroken] = useState(false);
  const [ready, setReady] = useState(false);
  const [tilesFailed, setTilesFailed] = useState(false);
  const [grid, setGrid] = useState<Grid | null>(null);
  // The place that the pointer is on, here and not in the grid.
  const [peek, setPeek] = useState<string | null>(null);
  const colors = dark ? DARK : LIGHT;

  const list = useMemo(() => placed(hits), [hits]);
  const facts = useMemo(() => {
    const [good, bad] = [new Set(positives), new Set(negatives)];
    const ranks = mode === "list" ? colors.ranks.slice(2, 3) : colors.ranks;
    return list.map((one) => factsOf(one, hits.length, ranks, good, bad));
  }, [list, hits.length, mode, colors, positives, negatives]);
  const places = usePlaces(props.survey, props.searchKey, view, label, everything);
  const paint = useMemo((): Paint => (label === null ? { kind: "score" } : { kind: "label", name: label }), [label]);
  const drawn = useMemo(
    () => (everything && places.answer ? drawnOf(places.answer, paint, colors) : null),
    [everything, places.answer, paint, colors],
  );
  // Ranks are drawn over all records, but not where other colors mean something else.
  const ranked = !everything || (label === null && mode !== "list");
  useEffect(() => setEverything(props.everything), [props.everything]);
  useEffect(() => setPicked(null), [props.searchKey]);
  const ids = useMemo(() => list.map((one) => one.hit.id).join("\n"), [list]);

  useEffect(() => {
    if (!holder.current) return;
    try {
      const images = { thumbnail: (id: string) => api.thumbnailUrl(id, archiveName.value || null), headers: () => api.headers() };
      chart.current = new Chart(holder.current, colors, basemap, images, {
        onPick: (id) => {
          const hit = id !== null && calls.current.hits.some((one) => one.id === id);
          setPicked(hit ? null : id);
          calls.current.onSelect(hit ? id : null);
        },
        onHover: (id) => {
          pointed.value = id;
          setPeek(id);
        },
        onDrawn: (drawn) => {
          setDrawing(null);
          calls.current.onBox(drawn);
        },
        onPolygon: (rings) => {
          setDrawing(null);
          if (cornersOf(rings) > MOST_CORNERS) notify(`A polygon has at most ${MOST_CORNERS} corners.`);
          else calls.current.onPolygon(rings);
        },
        onView: (shown, zoom) => setView({ box: shown, zoom }),
        onGrid: setGrid,
        onTrouble: () => setTilesFailed(true),
        onReady: () => setReady(true),
      });
    } catch {
      setBroken(true);
      return;
    }
    const made = chart.current;
    made.setHits(list, facts);
    made.setArea(box, polygon);
    made.setPlaces(drawn, ranked);
    made.setMarked(selected, null);
    made.fit(true, calls.current.extent);
    return () => {
      chart.current = null;
      setReady(false);
      made.remove();
    };
    // A new theme or basemap makes a new map; everything else changes the one there is.
  }, [colors, basemap]);

  useEffect(() => chart.current?.setHits(list, facts), [list, facts]);
  useEffect(() => chart.current?.setArea(box, polygon), [box, polygon]);
  useEffect(() => chart.current?.setPlaces(drawn, ranked), [drawn, ranked]);
  useEffect(() => {
    if (ranked) chart.current?.fitIfNeeded();
  }, [ids]);
  useEffect(() => chart.current?.setDrawing(drawing), [drawing, colors, basemap]);
  const hovered = pointed.value;
  useEffect(() => chart.current?.setMarked(selected, hovered), [selected, hovered]);
  useEffect(() => {
    if (selected !== null) chart.current?.reveal(selected);
  }, [selected]);

  const credit = basemap ? sayCredit(basemap, about.value?.basemap_credit) : WORLD_CREDIT;
  const unplaced = describeMissing(hits.length, list.length);
  const apply = (next: Box | null) => {
    setDrawing(null);
    props.onBox(next);
  };
  const turn = (kind: Drawing) => setDrawing(drawing === kind ? null : kind);
  return (
    <section class="map-view" aria-label="Map of results">
      <div class="map-bar">
        <button type="button" class="map-button" aria-pressed={drawing === "box"} disabled={broken} onClick={() => turn("box")}>
          {drawing === "box" ? "Cancel drawing" : "Draw box"}
        </button>
        <button type="button" class="map-button" aria-pressed={drawing === "polygon"} disabled={broken} onClick={() => turn("polygon")}>
          {drawing === "polygon" ? "Cancel drawing" : "Draw polygon"}
        </button>
        <button
          type="button"
          class="map-button"
          disabled={broken}
          onClick={() => chart.current && apply(chart.current.view())}
        >
          Search in this view
        </button>
        {box && (
          <button type="button" class="map-button" onClick={() => apply(null)}>
            Clear box
          </button>
        )}
        {polygon && (
          <button type="button" class="map-button" onClick={() => props.onPolygon(null)}>
            Clear polygon
          </button>
        )}
        <label class="map-choice">
          Show
          <select aria-label="Show on the map" value={everything ? "all" : "hits"} onChange={(event) => setEverything(event.currentTarget.value === "all")}>
            <option value="hits">these results</option>
            <option value="all">all that match</option>
          </select>
        </label>
        {everything && props.labels.length > 0 && (
          <label class="map-choice">
            Color by
            <select aria-label="Color by" value={label ?? ""} onChange={(event) => setLabel(event.currentTarget.value || null)}>
              <option value="">{mode === "list" ? "none" : "score"}</option>
              {props.labels.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
        )}
        <BoxFields box={box} onBox={apply} />
      </div>
      {broken ? (
        <p class="map-note">
          The map needs WebGL, which this browser does not provide. You can still enter a bounding box as coordinates.
        </p>
      ) : (
        <div
          class="map-frame"
          onKeyDown={(event) => {
            if (event.key === "Enter" && drawing === "polygon") chart.current?.finish();
            if (event.key !== "Escape" || (!drawing && picked === null)) return;
            event.stopPropagation();
            setDrawing(null);
            setPicked(null);
          }}
        >
          <div class="map-holder" ref={holder} />
          <div class="map-ticks" aria-hidden="true">
            {grid?.meridians.map((tick) => (
              <span key={`x${tick.value}`} class="map-tick map-tick-x" style={{ left: `${tick.at}px` }}>
                {sayLongitude(tick.value)}
              </span>
            ))}
            {grid?.parallels.map((tick) => (
              <span key={`y${tick.value}`} class="map-tick map-tick-y" style={{ top: `${tick.at}px` }}>
                {sayLatitude(tick.value)}
              </span>
            ))}
          </div>
          <div class="map-zoom">
            <button type="button" class="map-button" aria-label="Zoom in" onClick={() => chart.current?.zoom(1)}>
              +
            </button>
            <button type="button" class="map-button" aria-label="Zoom out" onClick={() => chart.current?.zoom(-1)}>
              −
            </button>
            <button
              type="button"
              class="map-button"
              aria-label="Show all results"
              title="Show all results"
              onClick={() => chart.current?.fit(false, props.extent)}
            >
              ⤢
            </button>
          </div>
          {!ready && (
            <p class="map-hint" role="status">
              Drawing the map …
            </p>
          )}
          {drawing === "box" && <p class="map-hint">Drag on the map to draw a bounding box. Press Escape to cancel.</p>}
          {drawing === "polygon" && (
            <p class="map-hint">Click the corners; double-click, or press Enter, at the last one. Press Escape to cancel.</p>
          )}
          {credit && <p class="map-credit">{credit}</p>}
          {picked !== null ? (
            <Picked id={picked} area={drawn?.areas.find((one) => one.id === picked)} onQuery={props.onQuery} onClose={() => setPicked(null)} />
          ) : (
            peek !== null && (
              <div class="map-peek" aria-hidden="true">
                <Sharp id={peek} archive={archiveName.value || null} eager />
              </div>
            )
          )}
          <MapLegend
            colors={colors}
            paint={paint}
            drawn={drawn}
            ranked={ranked && list.length && mode !== "list" ? hits.length : 0}
            marks={{ good: facts.some((one) => one.mark === 1), bad: facts.some((one) => one.mark === -1) }}
            grid={grid}
          />
        </div>
      )}
      <p class="map-note">
        <Readout list={list} mode={mode} id={hovered ?? selected} areas={drawn?.areas ?? []} />
        {everything && places.busy && <span role="status">Reading the records in this view … </span>}
        {everything && places.problem && <span role="alert">{places.problem} </span>}
        {everything && places.answer && <span role="status">{sayPlaces(places.answer)} </span>}
        {box && <span>Searched box: {sayBox(box)}. </span>}
        {polygon && <span>{`Searched polygon: ${cornersOf(polygon)} corners. `}</span>}
        {!everything && unplaced && <span>{unplaced} </span>}
        {tilesFailed && <span>Some tiles of the basemap could not be loaded.</span>}
      </p>
    </section>
  );
}

/** Say how many records are in view, and of how many. */
function sayPlaces({ inside, placed, matched }: { inside: number; placed: number; matched: number }): string {
  const missing = matched - placed;
  const without = missing ? ` ${count(missing)} more ${missing === 1 ? "has" : "have"} no location.` : "";
  return `${count(inside)} of ${count(placed)} matching records in view.${without}`;
}

interface PickedProps {
  id: string;
  area: Area | undefined;
  onQuery: (id: string) => void;
  onClose: () => void;
}

/** A record of the map that is no hit of the page. */
function Picked({ id, area, onQuery, onClose }: PickedProps) {
  return (
    <div class="map-peek map-picked" role="group" aria-label={`Record ${id}`}>
      <Sharp id={id} archive={archiveName.value || null} eager />
      <p class="mono" title={id}>
        {id}
      </p>
      {area && area.labels.length > 0 && <p class="small faint">{area.labels.slice(0, 6).join(", ")}</p>}
      <div class="row">
        <button type="button" class="map-button" onClick={() => onQuery(id)}>
          Search with this
        </button>
        <button type="button" class="map-button" onClick={onClose}>
          Close
        </button>
      </div>
    </div>
  );
}

interface ReadoutProps {
  list: ReturnType<typeof placed>;
  mode: string;
  id: string | null;
  areas: readonly Area[];
}

function Readout({ list, mode, id, areas }: ReadoutProps) {
  const one = list.find((each) => each.hit.id === id);
  const area = one ? undefined : areas.find((each) => each.id === id);
  if (area)
    return (
      <span>
        {area.id}
        {area.score !== null && <span class="map-dim"> score {area.score.toFixed(3)}</span>}
        {area.labels.length > 0 && <span class="map-dim"> · {area.labels.slice(0, 6).join(", ")}</span>}.{" "}
      </span>
    );
  if (!one) return list.length ? <span class="map-dim">Hover over a footprint to see its name. </span> : null;
  const { hit, rank } = one;
  return (
    <span>
      <b>{rank}.</b> {hit.id} <span class="map-dim">{nearness(hit, mode, about.value?.n_bits ?? 0)}</span>
      {hit.labels.length > 0 && <span class="map-dim"> · {hit.labels.slice(0, 6).join(", ")}</span>}.{" "}
    </span>
  );
}
