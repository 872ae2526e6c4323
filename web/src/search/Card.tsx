import { Icon } from "../icons";
import { memo } from "../memo";
import { Sharp } from "../Sharp";
import { about, archiveName, focus, found } from "../store";
import type { Hit } from "../types";
import { markHit, openHit, selectHit } from "./act";
import { labelBits, likeness, sharedOf, shortId, shortNearness } from "./why";

interface Props {
  hit: Hit;
  at: number;
  mode: string;
  mark: "good" | "bad" | null;
  open: boolean;
  focused: boolean;
  selected: boolean;
  /** Labels given in the open collection, joined by semicolons. */
  given: string;
  /** Rank before, 0 for a hit that is new, null where nothing is compared. */
  was: number | null;
  describe: string;
}

/** One result: its image, how near it is, and which labels it shares. */
export const Card = memo(function Card({ hit, at, mode, mark, open, focused, selected, given, was, describe }: Props) {
  const shared = new Set(hit.shared);
  const queryLabels = found.value?.predicted;
  const names = about.value?.label_names ?? [];
  const cue = queryLabels && hit.predicted && names.length ? labelBits(names, queryLabels, hit.predicted) : null;
  const near = shortNearness(hit, mode);
  // Shared labels first: they are why.
  const labels = [...hit.shared, ...hit.labels.filter((label) => !shared.has(label))];
  const guessed = (hit.predicted ?? []).filter((label) => !hit.labels.includes(label));
  const says = [
    `${at + 1}: ${hit.id}`,
    describe,
    likeness(hit),
    cue ? sharedOf(cue) : "",
    hit.shared.length ? `shares ${hit.shared.join(", ")}` : hit.labels.join(", "),
    hit.labels.length && !hit.annotated ? "labels predicted" : "",
    mark ? `marked ${mark}` : "",
    selected ? "selected" : "",
    given ? `labeled ${given}` : "",
    was === 0 ? "new" : was !== null && was !== at + 1 ? `was ${was}` : "",
  ];
  return (
    <li class="card" data-mark={mark ?? undefined} data-open={open || undefined} data-selected={selected || undefined}>
      <button
        type="button"
        class="card-image"
        tabIndex={focused ? 0 : -1}
        aria-label={says.filter(Boolean).join("; ")}
        aria-expanded={open}
        onClick={() => openHit(open ? null : hit.id)}
        onFocus={() => (focus.value = at)}
      >
        <Sharp id={hit.id} archive={archiveName.value || null} box={hit.region?.box} />
        {mark && (
          <span class="card-mark">
            <Icon name={mark === "good" ? "plus" : "minus"} />
          </span>
        )}
        {was !== null && was !== at + 1 && (
          // Drawn by its style: text in here would have to be part of the button's name.
          <span
            class="card-was mono"
            data-way={was === 0 ? "new" : was > at + 1 ? "up" : "down"}
            data-says={was === 0 ? "new" : `${was > at + 1 ? "▲" : "▼"}${Math.abs(was - at - 1)}`}
          />
        )}
      </button>
      <div class="card-actions">
        <button type="button" tabIndex={-1} aria-pressed={selected} aria-label={`Select: ${hit.id}`} title="Select  x, Shift for all in between" onClick={(event) => selectHit(hit.id, event.shiftKey)}>
          <Icon name="check" />
        </button>
        <button type="button" tabIndex={-1} aria-pressed={mark === "good"} aria-label={`Good: ${hit.id}`} title="Good  +" onClick={() => markHit(hit.id, "good")}>
          <Icon name="plus" />
        </button>
        <button type="button" tabIndex={-1} aria-pressed={mark === "bad"} aria-label={`Bad: ${hit.id}`} title="Bad  -" onClick={() => markHit(hit.id, "bad")}>
          <Icon name="minus" />
        </button>
      </div>
      <div class="card-line">
        <span class="card-rank mono">{at + 1}</span>
        <span class="clip" title={hit.id}>
          {shortId(hit.id)}
        </span>
        <span class="card-near mono" title={likeness(hit)}>
          {near}
        </span>
      </div>
      <ul class="card-labels" aria-label="Labels">
        {given && given.split("; ").map((label) => (
          <li key={`given ${label}`} class="given" title={`${label}: given in this collection`}>
            {label}
          </li>
        ))}
        {labels.slice(0, 6).map((label) => (
          <li
            key={label}
            class={[shared.has(label) ? "shared" : "", hit.annotated ? "" : "guess"].join(" ")}
            title={`${label}: ${hit.annotated ? "annotated" : "predicted, not annotated"}${shared.has(label) ? ", shared with the query" : ""}`}
          >
            {label}
          </li>
        ))}
        {labels.length > 6 && <li>{`+${labels.length - 6}`}</li>}
        {guessed.slice(0, 4).map((label) => (
          <li key={label} class="guess" title={`${label}: predicted, not annotated`}>
            {label}
          </li>
        ))}
      </ul>
      {cue && sharedOf(cue) && <p class="card-cue" title="Labels that the model predicts for both, of those it predicts for the query">{sharedOf(cue)}</p>}
      {hit.near > 0 && <p class="small faint">{`${hit.near} near-duplicates hidden`}</p>}
    </li>
  );
});
