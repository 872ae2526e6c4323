import type { ComponentChildren } from "preact";
import { Icon } from "../icons";
import { cornersOf } from "../map/polygon";
import { NO_FILTERS, type FilterState } from "../state";
import { ask, notify, state } from "../store";
import { dropLabel, setScore, toggled, sayDays, turnLabel, wantedOf, WANTED_WORD } from "./filters";
import { hasFilters } from "./request";

/** The filters that are set, each with a way to change it and one to take it away. */
export function FilterChips() {
  const { filters } = state.value;
  if (!hasFilters(filters)) return null;
  const set = (next: FilterState) => ask({ filters: next });
  const names = [...filters.all, ...filters.any, ...filters.none];
  const lists = [["groups", "group"], ["sensors", "sensor"], ["parts", "split"]] as const;
  return (
    <ul class="chips" aria-label="Active filters">
      {names.map((name) => {
        const wanted = wantedOf(filters, name) ?? "all";
        return (
          <Chip key={`l${name}`} what={`${WANTED_WORD[wanted]} ${name}`} onDrop={() => set(dropLabel(filters, name))}>
            <button type="button" class="chip-turn" title="Switch between must, any of and exclude" onClick={() => set(turnLabel(filters, name))}>
              <span class="chip-word">{WANTED_WORD[wanted]}</span> {name}
            </button>
          </Chip>
        );
      })}
      {filters.scores.map(([name, least]) => (
        <Chip key={`s${name}`} what={`score of ${name}`} onDrop={() => set(setScore(filters, name, null))}>
          <label class="chip-turn">
            {name} <span class="chip-word">≥</span>
            <input
              type="range"
              min="0"
              max="1"
              step="0.05"
              value={least}
              aria-label={`Minimum predicted score of ${name}`}
              onChange={(event) => set(setScore(filters, name, Number(event.currentTarget.value)))}
            />
            <span class="mono">{least.toFixed(2)}</span>
          </label>
        </Chip>
      ))}
      {filters.expression && (
        <Chip what="expression" onDrop={() => set({ ...filters, expression: "" })}>
          <span class="mono">{filters.expression}</span>
        </Chip>
      )}
      {lists.flatMap(([key, word]) =>
        filters[key].map((value) => (
          <Chip key={key + value} what={value} onDrop={() => set({ ...filters, [key]: toggled(filters[key], value) })}>
            <span>
              <span class="chip-word">{word}</span> {value}
            </span>
          </Chip>
        )),
      )}
      {(filters.from || filters.until) && (
        <Chip what="time" onDrop={() => set({ ...filters, from: null, until: null })}>
          <span class="mono">{sayDays(filters)}</span>
        </Chip>
      )}
      {filters.box && (
        <Chip what="bounding box" onDrop={() => set({ ...filters, box: null })}>
          <span>
            <span class="chip-word">bounding box</span> <span class="mono">{filters.box.map((x) => Number(x.toFixed(3))).join(", ")}</span>
          </span>
        </Chip>
      )}
      {filters.polygon && (
        <Chip what="polygon" onDrop={() => set({ ...filters, polygon: null })}>
          <span>
            <span class="chip-word">polygon</span> {`${cornersOf(filters.polygon)} corners`}
          </span>
        </Chip>
      )}
      <li>
        <button
          type="button"
          class="link"
          onClick={() => {
            set(NO_FILTERS);
            notify("All filters removed.");
          }}
        >
          Clear all
        </button>
      </li>
    </ul>
  );
}

function Chip({ what, onDrop, children }: { what: string; onDrop: () => void; children: ComponentChildren }) {
  return (
    <li class="chip">
      {children}
      <button type="button" class="chip-drop" aria-label={`Remove filter: ${what}`} onClick={onDrop}>
        <Icon name="close" />
      </button>
    </li>
  );
}
