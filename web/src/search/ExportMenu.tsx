import { useRef } from "preact/hooks";
import { ApiError } from "../api";
import { Icon } from "../icons";
import { api, found, notify, state } from "../store";
import { MOST_HITS } from "../state";
import type { ExportFormat } from "../names";
import { requestOf } from "./request";
import { fileName } from "./collection";
import { titleOf } from "./remember";
import { imageOf } from "./run";

const FORMATS: readonly (readonly [ExportFormat, string, string])[] = [
  ["geojson", "GeoJSON", "geojson"],
  ["csv", "CSV", "csv"],
  ["geoparquet", "GeoParquet", "parquet"],
];

/** Saves the results that are shown as a file. */
export function ExportMenu() {
  const own = useRef<HTMLDetailsElement>(null);
  const count = found.value?.hits.length ?? 0;
  if (!count) return null;
  const save = async (format: ExportFormat, ending: string) => {
    own.current?.removeAttribute("open");
    try {
      const image = await imageOf(state.value);
      const request = requestOf(state.value);
      // With a minimum score all that pass are written, not those shown alone.
      const passing = state.value.least === null ? null : await api.search({ ...request, k: MOST_HITS }, image ?? null);
      const k = passing?.hits.length ?? Math.min(MOST_HITS, count);
      const { blob, rows } = await api.exported({ ...request, k }, image ?? null, format, Boolean(passing?.cursor));
      const url = URL.createObjectURL(blob);
      const link = document.createElement("a");
      [link.href, link.download] = [url, `${fileName(titleOf(state.value))}.${ending}`];
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
      notify(`${rows} ${rows === 1 ? "row" : "rows"} saved as ${link.download}.`);
    } catch (error) {
      notify(error instanceof ApiError ? error.message : "The results could not be exported.");
    }
  };
  return (
    <details class="menu" ref={own} onKeyDown={(event) => event.key === "Escape" && own.current?.removeAttribute("open")}>
      <summary class="tool">
        <Icon name="export" /> <span class="wide-only">Export</span>
        <span class="hidden">the results</span>
      </summary>
      <ul>
        {FORMATS.map(([format, name, ending]) => (
          <li key={format}>
            <button type="button" onClick={() => void save(format, ending)}>
              {name}
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}
