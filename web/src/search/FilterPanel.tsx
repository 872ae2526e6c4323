import { useEffect, useState } from "preact/hooks";
import { readBox, readDate, type FilterState } from "../state";
import { ask, facets, state } from "../store";
import type { ValueCount } from "../types";
import { setDays, toggled } from "./filters";
import { LabelFilter } from "./LabelFilter";
import { PolygonFilter } from "./PolygonFilter";
import { Expression } from "./Expression";
import { hasExample } from "./request";
import { Threshold } from "./Threshold";
import { count } from "./why";

const set = (patch: Partial<FilterState>) => ask({ filters: { ...state.value.filters, ...patch } });

/** All filters that the archive has values for. */
export function FilterPanel() {
  const known = facets.value;
  const { filters } = state.value;
  return (
    <section class="filters" aria-label="Filters">
      <Threshold />
      <NearDuplicates />
      <LabelFilter />
      <Expression />
      {known && (
        <>
          <Values name="Group" values={known.groups} chosen={filters.groups} onChange={(groups) => set({ groups })} />
          <Values name="Sensor" values={known.sensors} chosen={filters.sensors} onChange={(sensors) => set({ sensors })} />
          <Values name="Split" values={known.parts} chosen={filters.parts} onChange={(parts) => set({ parts })} />
          {known.datetime && <Days first={known.datetime[0].slice(0, 10)} last={known.datetime[1].slice(0, 10)} />}
          {known.bbox && <BoxFilter />}
          {known.bbox && <PolygonFilter />}
        </>
      )}
    </section>
  );
}

/** Whether hits that are nearly the same count once. */
function NearDuplicates() {
  const current = state.value;
  if (!hasExample(current)) return null;
  return (
    <div class="filter">
      <label class="check">
        <input type="checkbox" checked={current.collapse} onChange={(event) => ask({ collapse: event.currentTarget.checked })} />
        Hide near-duplicates
      </label>
      <p class="small faint">Of records within a cosine distance of 0.02 only the best is shown.</p>
    </div>
  );
}

interface ValuesProps {
  name: string;
  values: readonly ValueCount[];
  chosen: readonly string[];
  onChange: (values: string[]) => void;
}

/** One of some values: a list to choose from, and what is chosen as chips above the results. */
function Values({ name, values, chosen, onChange }: ValuesProps) {
  if (!values.length || (values.length === 1 && !chosen.length)) return null;
  const id = `filter-${name.toLowerCase()}`;
  return (
    <div class="filter">
      <label for={id}>{name}</label>
      <select
        id={id}
        value=""
        onChange={(event) => {
          const value = event.currentTarget.value;
          event.currentTarget.value = "";
          if (value) onChange(toggled(chosen, value));
        }}
      >
        <option value="">{chosen.length ? `${chosen.length} chosen` : "Any"}</option>
        {values.map((one) => (
          <option key={one.name} value={one.name}>
            {`${chosen.includes(one.name) ? "✓ " : ""}${one.name} (${count(one.records)})`}
          </option>
        ))}
      </select>
    </div>
  );
}

function Days({ first, last }: { first: string; last: string }) {
  const { filters } = state.value;
  const change = (from: string | null, until: string | null) => ask({ filters: setDays(filters, from, until) });
  return (
    <fieldset class="filter">
      <legend>Time</legend>
      <div class="pair">
        <input
          type="date"
          aria-label="From"
          min={first}
          max={last}
          value={filters.from ?? ""}
          onChange={(event) => change(readDate(event.currentTarget.value), filters.until)}
        />
        <span aria-hidden="true">–</span>
        <input
          type="date"
          aria-label="Until"
          min={first}
          max={last}
          value={filters.until ?? ""}
          onChange={(event) => change(filters.from, readDate(event.currentTarget.value))}
        />
      </div>
      <p class="small faint">{`${first} – ${last} in this archive`}</p>
    </fieldset>
  );
}

/** A box in numbers, for keyboards; on the map it is drawn. */
export function BoxFilter() {
  const { box } = state.value.filters;
  const [text, setText] = useState(box?.join(", ") ?? "");
  const [wrong, setWrong] = useState(false);
  useEffect(() => setText(box?.join(", ") ?? ""), [box]);
  const apply = () => {
    const next = readBox(text.replaceAll(/[\s,;]+/g, ",").replace(/^,|,$/g, ""));
    setWrong(!next && text.trim() !== "");
    if (next || !text.trim()) if (String(next) !== String(box)) set({ box: next });
  };
  return (
    <form
      class="filter"
      onSubmit={(event) => {
        event.preventDefault();
        apply();
      }}
    >
      <label for="box">Bounding box</label>
      <input
        id="box"
        type="text"
        class="mono"
        inputMode="decimal"
        autocomplete="off"
        placeholder="west, south, east, north"
        aria-invalid={wrong}
        aria-describedby="box-says"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onBlur={apply}
      />
      <p class={wrong ? "small wrong" : "small faint"} id="box-says">
        {wrong ? "Enter four numbers in degrees: west, south, east, north." : "In degrees, or draw it on the map."}
      </p>
    </form>
  );
}
