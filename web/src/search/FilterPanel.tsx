import { readBox, readDate, type FilterState } from "../state";
import { ask, facets, state } from "../store";
import type { ValueCount } from "../types";
import { setDays, toggled } from "./filters";
import { LabelFilter } from "./LabelFilter";
import { PolygonFilter } from "./PolygonFilter";
import { Expression } from "./Expression";
import { hasExample } from "./request";
import { Threshold } from "./Threshold";
import { ValueField } from "./ValueField";
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
      <p class="small faint">Of records within a cosine distance of 0.02, only the best one is shown.</p>
    </div>
  );
}

interface ValuesProps {
  name: string;
  values: readonly Pick<ValueCount, "name" | "records">[];
  chosen: readonly string[];
  onChange: (values: string[]) => void;
}

/** One of some values: a list to choose from, and what is chosen as chips above the results. */
export function Values({ name, values, chosen, onChange }: ValuesProps) {
  if (!values.length || (values.length === 1 && !chosen.length)) return null;
  const id = `filter-${name.toLowerCase().replaceAll(" ", "-")}`;
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
        <option value="">{chosen.join(", ") || "Any"}</option>
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
  return (
    <div class="filter">
      <ValueField
        id="box"
        label="Bounding box"
        placeholder="west, south, east, north"
        value={state.value.filters.box}
        write={(box) => box.join(", ")}
        read={(text) => readBox(text.replaceAll(/[\s,;]+/g, ",").replace(/^,|,$/g, ""))}
        says="In degrees, or draw it on the map."
        wrong="Enter four numbers in degrees: west, south, east, north."
        onChange={(box) => set({ box })}
      />
    </div>
  );
}
