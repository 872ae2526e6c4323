import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api";
import { Icon } from "../icons";
import { api, found, notify, state } from "../store";
import { MOST_HITS } from "../state";
import type { ExportFormat } from "../names";
import { hasExample, requestOf, searchKey } from "./request";
import { fileName } from "./collection";
import { titleOf } from "./remember";
import { imageOf } from "./run";
import { surveyScores } from "./survey";
import { count } from "./why";

const FORMATS: readonly (readonly [ExportFormat, string, string])[] = [
  ["geojson", "GeoJSON", "geojson"],
  ["csv", "CSV", "csv"],
  ["geoparquet", "GeoParquet", "parquet"],
];

/** Saves the results that are shown, or all that match, as a file; says beforehand how many rows it has. */
export function ExportMenu() {
  const own = useRef<HTMLDetailsElement>(null);
  const [passing, setPassing] = useState<number | null>(null);
  const [every, setEvery] = useState<boolean | null>(null);
  const shown = found.value?.hits.length ?? 0;
  const { least, percentile, collapse } = state.value;
  const bounded = least !== null || percentile !== null;
  const key = searchKey(state.value);
  useEffect(() => {
    setPassing(null);
    setEvery(null);
  }, [key]);
  if (!found.value || !shown) return null;
  const fit = hasExample(state.value) && bounded ? passing : found.value.plan.allowed;
  // With a minimum all that pass are written unless one chooses otherwise.
  const all = every ?? bounded;
  const look = async () => {
    if (!own.current?.open || fit !== null) return;
    const counted = await surveyScores(1).catch(() => null);
    setPassing(counted?.passing ?? null);
  };
  const load = async (format: ExportFormat) => {
    const image = await imageOf(state.value);
    return api.exported({ ...requestOf(state.value), k: Math.min(MOST_HITS, shown) }, image ?? null, format, all);
  };
  const copyLink = async () => {
    own.current?.removeAttribute("open");
    const address = new URL("stac", document.baseURI).href;
    try {
      await navigator.clipboard.writeText(address);
      notify(`Copied ${address}. In QGIS add an OGC API - Features layer with this address.`);
    } catch {
      notify(`In QGIS add an OGC API - Features layer with the address ${address}`);
    }
  };
  return (
    <details class="menu" ref={own} onToggle={() => void look()} onKeyDown={(event) => event.key === "Escape" && own.current?.removeAttribute("open")}>
      <summary class="tool">
        <Icon name="export" /> <span class="wide-only">Export</span>
        <span class="hidden">the results</span>
      </summary>
      <ul>
        <li>
          <label class="menu-choice">
            Rows
            <select value={all ? "all" : "shown"} onChange={(event) => setEvery(event.currentTarget.value === "all")}>
              <option value="shown">{`${count(shown)} shown`}</option>
              <option value="all">{fit === null || collapse ? "all that match" : `all ${count(fit)} that match`}</option>
            </select>
          </label>
        </li>
        <Formats name={titleOf(state.value)} load={load} onSave={() => own.current?.removeAttribute("open")} />
        <li>
          <button type="button" onClick={() => void copyLink()}>
            Copy QGIS link
          </button>
        </li>
      </ul>
    </details>
  );
}

interface FormatsProps {
  /** Of the file, without its ending. */
  name: string;
  load: (format: ExportFormat) => Promise<{ blob: Blob; rows: number }>;
  onSave: () => void;
}

/** A button for each format; it saves a file and says how many rows that has. */
function Formats({ name, load, onSave }: FormatsProps) {
  const save = async (format: ExportFormat, ending: string) => {
    onSave();
    try {
      const { blob, rows } = await load(format);
      const url = URL.createObjectURL(blob);
      const link = document.createElement("a");
      [link.href, link.download] = [url, `${fileName(name)}.${ending}`];
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
      notify(`${count(rows)} ${rows === 1 ? "row" : "rows"} saved as ${link.download}.`);
    } catch (error) {
      notify(error instanceof ApiError ? error.message : "The results could not be exported.");
    }
  };
  return (
    <>
      {FORMATS.map(([format, title, ending]) => (
        <li key={format}>
          <button type="button" onClick={() => void save(format, ending)}>
            {title}
          </button>
        </li>
      ))}
    </>
  );
}

/** A menu that saves a table in one of the formats. */
export function ExportList({ name, rows, load }: Omit<FormatsProps, "onSave"> & { rows: number }) {
  const own = useRef<HTMLDetailsElement>(null);
  const close = () => own.current?.removeAttribute("open");
  return (
    <details class="menu" ref={own} onKeyDown={(event) => event.key === "Escape" && close()}>
      <summary class="tool">
        <Icon name="export" /> {`Export ${count(rows)}`}
      </summary>
      <ul>
        <Formats name={name} load={load} onSave={close} />
      </ul>
    </details>
  );
}
