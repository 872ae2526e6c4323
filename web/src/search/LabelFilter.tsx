import { useState } from "preact/hooks";
import { about, ask, labels, state } from "../store";
import { dropLabel, setScore, suggest, wantedOf, wantLabel, WANTED, WANTED_WORD, type Wanted } from "./filters";
import { count } from "./why";

const SHORT: Record<Wanted, string> = { all: "must", any: "any", none: "not" };

/** Labels to filter by: type to find one, choose how it is wanted. */
export function LabelFilter() {
  const [text, setText] = useState("");
  const [all, setAll] = useState(false);
  const { filters } = state.value;
  const known = labels.value;
  if (!known.length) return null;
  const first = suggest(known, text, all || text ? 60 : 6);
  const isSet = (name: string) => wantedOf(filters, name) !== null || filters.scores.some(([other]) => other === name);
  // Those that filter stay in sight, however rare they are.
  const shown = text ? first : [...first, ...known.filter((one) => isSet(one.name) && !first.includes(one))];
  const predicted = new Set(about.value?.label_names ?? []);
  return (
    <fieldset class="filter">
      <legend>Labels</legend>
      <input
        id="label-search"
        type="search"
        placeholder="Find a label  /"
        aria-label="Find a label"
        autocomplete="off"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          const first = shown[0];
          if (event.key !== "Enter" || !first || !text.trim()) return;
          ask({ filters: wantLabel(filters, first.name, "all") });
          setText("");
        }}
      />
      <ul class="label-rows">
        {shown.map(({ name, records }) => {
          const wanted = wantedOf(filters, name);
          const score = filters.scores.find(([other]) => other === name)?.[1];
          return (
            <li key={name} class="label-row">
              <span>{name}</span>
              <span class="mono faint">{count(records)}</span>
              <span class="wants" role="group" aria-label={name}>
                {WANTED.map((one) => (
                  <button
                    key={one}
                    type="button"
                    aria-pressed={wanted === one}
                    aria-label={`${SHORT[one]}: ${name}`}
                    title={`${WANTED_WORD[one]} ${name}`}
                    onClick={() =>
                      ask({ filters: wanted === one ? dropLabel(filters, name) : wantLabel(filters, name, one) })
                    }
                  >
                    {SHORT[one]}
                  </button>
                ))}
                {predicted.has(name) && (
                  <button
                    type="button"
                    aria-pressed={score !== undefined}
                    aria-label={`Model confidence for ${name}`}
                    title={`Model confidence for ${name}`}
                    onClick={() => ask({ filters: setScore(filters, name, score === undefined ? 0.7 : null) })}
                  >
                    ≥
                  </button>
                )}
              </span>
            </li>
          );
        })}
      </ul>
      {!shown.length && <p class="small">No matching label.</p>}
      {!text && known.length > 6 && (
        <button type="button" class="link" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "Fewer" : `All ${known.length} labels`}
        </button>
      )}
    </fieldset>
  );
}
