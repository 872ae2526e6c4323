import { ask, facets, found, latencies, state } from "../store";
import { MODES, type Mode } from "../names";
import { hasExample } from "./request";
import { count, milliseconds } from "./why";

const NAMES: Record<Mode, string> = {
  auto: "Auto",
  embedding: "Embedding (exact)",
  code: "Hash",
  cue: "Labels + hash",
  "two-stage": "Re-ranked",
  ann: "ANN",
  fused: "Embedding + labels",
  "fused-code": "Hash + labels (asymmetric)",
};

const TELLS: Record<Mode, string> = {
  auto: "The server chooses the method",
  embedding: "Exact search over the float embeddings",
  code: "Exact search over the hash codes, by differing bits",
  cue: "Exact search over predicted labels and hash codes",
  "two-stage": "A compressed shortlist, re-ranked by the float embeddings",
  ann: "An approximate index, re-ranked by the float embeddings",
  fused: "Float embeddings and predicted labels together, weighted as measured on this archive",
  "fused-code": "Hash codes decoded for the float query, and label probabilities of 2 bits",
};

/** Chooses how records are compared; each mode shows how long its last search took. */
export function ModeSwitch() {
  const current = state.value;
  if (!hasExample(current)) return null;
  const possible = facets.value?.modes ?? ["auto", "embedding"];
  const modes = MODES.filter((mode) => possible.includes(mode) || mode === current.mode);
  const answered = found.value;
  return (
    <div class="modes-line">
      <div class="modes" role="radiogroup" aria-label="Ranking method">
        {modes.map((mode) => {
          const time = mode === "auto" ? undefined : latencies.value.get(mode);
          const on = mode === current.mode;
          return (
            <button
              key={mode}
              type="button"
              role="radio"
              aria-checked={on}
              tabIndex={on ? 0 : -1}
              title={TELLS[mode]}
              onClick={() => ask({ mode, least: null, pages: 1 })}
              onKeyDown={(event) => {
                const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
                if (!by) return;
                event.preventDefault();
                const next = modes[(modes.indexOf(mode) + by + modes.length) % modes.length] ?? mode;
                ask({ mode: next, least: null, pages: 1 });
                const group = event.currentTarget.parentElement;
                (group?.children[modes.indexOf(next)] as HTMLElement | undefined)?.focus();
              }}
            >
              <span>{NAMES[mode]}</span>
              <span class="mode-time mono">
                {mode === "auto" ? (on && answered && NAMES[answered.mode as Mode]) || "–" : time === undefined ? "–" : milliseconds(time)}
              </span>
            </button>
          );
        })}
      </div>
      {answered && (
        <p class="small faint mode-plan">
          {milliseconds(answered.plan.milliseconds)} on the server, {milliseconds(answered.roundTrip)} in all
          {answered.plan.recall !== null && `; measured recall ${answered.plan.recall.toFixed(3)}`}
          {answered.plan.allowed < answered.plan.records &&
            `; ${answered.plan.allowed === 1 ? "1 record fits" : `${count(answered.plan.allowed)} records fit`} the filters`}
        </p>
      )}
    </div>
  );
}
