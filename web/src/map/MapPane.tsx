import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { nearness } from "../search/why";
import { Sharp } from "../Sharp";
import { about, archiveName, pointed } from "../store";
import type { Box } from "../names";
import { BoxFields } from "./BoxFields";
import { Chart, type Grid } from "./chart";
import { DARK, LIGHT } from "./colors";
import { factsOf, placed, sayCredit, describeMissing } from "./features";
import { sayBox, sayLatitude, sayLongitude } from "./geometry";
import "./map.css";
import type { MapProps } from "./props";

/** The map of results. It draws without any tile server; everything it does has a button or a field too. */
export default function MapPane(props: MapProps) {
  const { hits, mode, selected, box, basemap, dark, positives, negatives } = props;
  const holder = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  const calls = useRef(props);
  calls.current = props;
  const [drawing, setDrawing] = useState(false);
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
  const ids = useMemo(() => list.map((one) => one.hit.id).join("\n"), [list]);

  useEffect(() => {
    if (!holder.current) return;
    try {
      chart.current = new Chart(holder.current, colors, basemap, {
        onPick: (id) => calls.current.onSelect(id),
        onHover: (id) => {
          pointed.value = id;
          setPeek(id);
        },
        onDrawn: (drawn) => {
          setDrawing(false);
          calls.current.onBox(drawn);
        },
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
    made.setBox(box);
    made.setMarked(selected, null);
    made.fit();
    return () => {
      chart.current = null;
      setReady(false);
      made.remove();
    };
    // A new theme or basemap makes a new map; everything else changes the one there is.
  }, [colors, basemap]);

  useEffect(() => chart.current?.setHits(list, facts), [list, facts]);
  useEffect(() => chart.current?.setBox(box), [box]);
  useEffect(() => chart.current?.fitIfNeeded(), [ids]);
  useEffect(() => chart.current?.setDrawing(drawing), [drawing, colors, basemap]);
  const hovered = pointed.value;
  useEffect(() => chart.current?.setMarked(selected, hovered), [selected, hovered]);
  useEffect(() => {
    if (selected !== null) chart.current?.reveal(selected);
  }, [selected]);

  const credit = sayCredit(basemap, about.value?.basemap_credit);
  const unplaced = describeMissing(hits.length, list.length);
  const apply = (next: Box | null) => {
    setDrawing(false);
    props.onBox(next);
  };
  return (
    <section class="map-view" aria-label="Map of results">
      <div class="map-bar">
        <button
          type="button"
          class="map-button"
          aria-pressed={drawing}
          disabled={broken}
          onClick={() => setDrawing(!drawing)}
        >
          {drawing ? "Cancel drawing" : "Draw box"}
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
            if (event.key === "Escape" && drawing) {
              event.stopPropagation();
              setDrawing(false);
            }
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
              onClick={() => chart.current?.fit(false)}
            >
              ⤢
            </button>
          </div>
          {!ready && (
            <p class="map-hint" role="status">
              Drawing the map …
            </p>
          )}
          {drawing && <p class="map-hint">Drag on the map to draw a bounding box. Press Escape to cancel.</p>}
          {credit && <p class="map-credit">{credit}</p>}
          {peek !== null && list.some((one) => one.hit.id === peek) && (
            <div class="map-peek" aria-hidden="true">
              <Sharp id={peek} archive={archiveName.value || null} eager />
            </div>
          )}
          <div class="map-legend" aria-hidden="true">
            {list.length > 0 && mode !== "list" && (
              <span class="map-key">
                rank 1
                <span class="map-ramp">
                  {colors.ranks.map((color) => (
                    <i key={color} style={{ background: color }} />
                  ))}
                </span>
                {hits.length}
              </span>
            )}
            {facts.some((one) => one.mark === 1) && <span class="map-key map-good">good</span>}
            {facts.some((one) => one.mark === -1) && <span class="map-key map-bad">bad</span>}
            {grid && (
              <span class="map-scale" style={{ width: `${grid.scale.pixels}px` }}>
                {grid.scale.text}
              </span>
            )}
          </div>
        </div>
      )}
      <p class="map-note">
        <Readout list={list} mode={mode} id={hovered ?? selected} />
        {box && <span>Searched box: {sayBox(box)}. </span>}
        {unplaced && <span>{unplaced} </span>}
        {tilesFailed && <span>Some tiles of the basemap could not be loaded.</span>}
      </p>
    </section>
  );
}

function Readout({ list, mode, id }: { list: ReturnType<typeof placed>; mode: string; id: string | null }) {
  const one = list.find((each) => each.hit.id === id);
  if (!one) return list.length ? <span class="map-dim">Hover over a footprint to see its name. </span> : null;
  const { hit, rank } = one;
  return (
    <span>
      <b>{rank}.</b> {hit.id} <span class="map-dim">{nearness(hit, mode, about.value?.n_bits ?? 0)}</span>
      {hit.labels.length > 0 && <span class="map-dim"> · {hit.labels.slice(0, 6).join(", ")}</span>}.{" "}
    </span>
  );
}
