import { useState } from "preact/hooks";
import { cornersOf, readPolygon, type Rings } from "../map/polygon";
import { ask, state } from "../store";

const LARGEST = 5_000_000;

/** A polygon from GeoJSON, pasted or from a file; on the map it is drawn. */
export function PolygonFilter() {
  const { filters } = state.value;
  const [wrong, setWrong] = useState("");
  const set = (polygon: Rings | null) => ask({ filters: { ...filters, polygon } });
  const apply = (text: string) => {
    const found = readPolygon(text);
    setWrong(typeof found === "string" ? found : "");
    if (typeof found !== "string") set(found);
  };
  const load = async (file: File | undefined) => {
    if (!file) return;
    if (file.size > LARGEST) setWrong(`${file.name} is larger than 5 MB. Simplify the polygon.`);
    else apply(await file.text());
  };
  return (
    <div class="filter">
      <label for="polygon">Polygon</label>
      <input
        id="polygon"
        type="text"
        class="mono"
        autocomplete="off"
        spellcheck={false}
        placeholder={filters.polygon ? `${cornersOf(filters.polygon)} corners` : '{"type": "Polygon", …'}
        aria-invalid={wrong !== ""}
        aria-describedby="polygon-says"
        onChange={(event) => {
          if (event.currentTarget.value.trim()) apply(event.currentTarget.value);
          else setWrong("");
        }}
      />
      <label class="tool file-choice">
        Open GeoJSON file
        <input
          type="file"
          class="hidden"
          accept=".geojson,.json,application/geo+json,application/json"
          onChange={(event) => {
            void load(event.currentTarget.files?.[0]);
            event.currentTarget.value = "";
          }}
        />
      </label>
      <p class={wrong ? "small wrong" : "small faint"} id="polygon-says" role={wrong ? "alert" : undefined}>
        {wrong || "Paste or open GeoJSON, or draw it on the map."}
      </p>
    </div>
  );
}
