import { state } from "../store";
import type { Hit, RecordAnswer } from "../types";
import { setFilter } from "./act";
import { wantLabel } from "./filters";
import { likeness, middleOf } from "./why";

/** What is known of a hit; labels and groups lead to filters. */
export function Facts({ hit, mode, record }: { hit: Hit; mode: string; record: RecordAnswer | null }) {
  const { filters } = state.value;
  const annotated = record?.labels ?? null;
  const predicted = record?.predicted_labels ?? [];
  const rows: [string, string | null | undefined][] = [
    ["Id", hit.id.includes("/") ? hit.id : null],
    ["Score", mode === "list" ? null : hit.score.toFixed(4)],
    ["Similarity", likeness(hit)],
    ["Distance", mode === "list" ? null : `${Number(hit.distance.toFixed(4))}${mode === "place" ? " km" : ""}`],
    ["Time", hit.datetime?.replace("T", " ").replace(/(:00)?Z$/, " UTC")],
    ["Sensor", hit.sensor],
    ["Split", record?.part],
    ["Window", hit.window ? `${hit.window[2]} × ${hit.window[3]} at ${hit.window[0]}, ${hit.window[1]}` : null],
    ["Center", hit.bbox && placeOf(middleOf(hit.bbox))],
  ];
  return (
    <section class="facts" aria-label="Record details">
      <h3>Record</h3>
      <dl>
        {annotated && <LabelFact name="Annotated" labels={annotated} />}
        {predicted.length > 0 && <LabelFact name="Predicted" labels={predicted} />}
        {hit.group && (
          <div>
            <dt>Group</dt>
            <dd>
              <button type="button" class="link" onClick={() => setFilter({ ...filters, groups: [hit.group ?? ""] })}>
                {hit.group}
              </button>
            </dd>
          </div>
        )}
        {rows.map(
          ([name, value]) =>
            value && (
              <div key={name}>
                <dt>{name}</dt>
                <dd class="mono">{value}</dd>
              </div>
            ),
        )}
      </dl>
    </section>
  );
}

function LabelFact({ name, labels }: { name: string; labels: readonly string[] }) {
  const { filters } = state.value;
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {labels.length === 0 && <span class="faint">none</span>}
        {labels.map((label) => (
          <button key={label} type="button" class="link" title={`Filter: must have ${label}`} onClick={() => setFilter(wantLabel(filters, label, "all"))}>
            {label}
          </button>
        ))}
      </dd>
    </div>
  );
}

function placeOf([longitude, latitude]: [number, number]): string {
  const degrees = (value: number, letters: string) => `${Math.abs(value).toFixed(4)}° ${letters[Number(value < 0)]}`;
  return `${degrees(latitude, "NS")}, ${degrees(longitude, "EW")}`;
}
