import { useRef } from "preact/hooks";
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
  regions: "Regions",
};

const TELLS: Record<Mode, string> = {
  auto: "The server chooses the method.",
  embedding: "Exact search over the float embeddings.",
  code: "Exact search over the hash codes, by differing bits.",
  cue: "Exact search over predicted labels and hash codes.",
  "two-stage": "A compressed shortlist, re-ranked by the float embeddings.",
  ann: "An approximate index, re-ranked by the float embeddings.",
  fused: "Float embeddings and predicted labels together, weighted as measured on this archive.",
  "fused-code": "Hash codes decoded for the float query, and label probabilities of 2 bits.",
  regions: "The most similar part of each image: finds what is smaller than a chip.",
};

/** Chooses how records are compared: a menu of the methods, each with a sentence and the time of its last search. */
export function ModeSwitch() {
  const own = useRef<HTMLDetailsElement>(null);
  const current = state.value;
  if (!hasExample(current)) return null;
  const possible = facets.value?.modes ?? ["auto", "embedding"];
  const modes = MODES.filter((mode) => possible.includes(mode) || mode === current.mode);
  const answered = found.value;
  const choose = (mode: Mode) => ask({ mode, least: null, percentile: null, pages: 1 });
  const close = () => {
    own.current?.removeAttribute("open");
    own.current?.querySelector("summary")?.focus();
  };
  const used = current.mode === "auto" && answered ? `: ${NAMES[answered.mode as Mode] ?? answered.mode}` : "";
  return (
    <div class="modes-line">
      <details
        class="menu modes-menu"
        ref={own}
        onKeyDown={(event) => event.key === "Escape" && close()}
        onFocusOut={(event) => {
          const to = event.relatedTarget;
          if (to instanceof Node && !own.current?.contains(to)) own.current?.removeAttribute("open");
        }}
      >
        <summary class="tool">
          <span class="faint">Ranking</span> {`${NAMES[current.mode]}${used}`} <span aria-hidden="true">▾</span>
        </summary>
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
                onClick={() => {
                  choose(mode);
                  close();
                }}
                onKeyDown={(event) => {
                  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
                  if (!by) return;
                  event.preventDefault();
                  const next = modes[(modes.indexOf(mode) + by + modes.length) % modes.length] ?? mode;
                  choose(next);
                  const group = event.currentTarget.parentElement;
                  (group?.children[modes.indexOf(next)] as HTMLElement | undefined)?.focus();
                }}
              >
                <span class="mode-name">{NAMES[mode]}</span>
                <span class="mode-time mono">{time === undefined ? "–" : milliseconds(time)}</span>
                <span class="mode-tells small">{TELLS[mode]}</span>
              </button>
            );
          })}
        </div>
      </details>
      {answered && (
        <p class="small faint mode-plan">
          {milliseconds(answered.plan.milliseconds)} on the server, {milliseconds(answered.roundTrip)} in total
          {answered.plan.recall !== null && `; measured recall ${answered.plan.recall.toFixed(3)}`}
          {answered.plan.allowed < answered.plan.records &&
            `; ${answered.plan.allowed === 1 ? "1 record fits" : `${count(answered.plan.allowed)} records fit`} the filters`}
        </p>
      )}
    </div>
  );
}
