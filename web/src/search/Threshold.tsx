import { useEffect, useState } from "preact/hooks";
import { readPercentile } from "../state";
import { ask, notify, state } from "../store";
import type { ScoresAnswer } from "../types";
import { passing } from "./scores";
import { hasExample, searchKey } from "./request";
import { surveyScores } from "./survey";
import { ValueField } from "./ValueField";
import { count } from "./why";

const BINS = 40;

/** The smallest score that results have, chosen on a histogram of all scores. */
export function Threshold() {
  const current = state.value;
  const [open, setOpen] = useState(current.least !== null || current.percentile !== null);
  const [scores, setScores] = useState<ScoresAnswer | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const wanted = hasExample(current);
  const example = searchKey({ ...current, least: null, k: 1, pages: 1, collapse: false });
  useEffect(() => setScores(null), [example]);
  useEffect(() => {
    setAt(null);
    if (!open || !wanted) return;
    const mine = new AbortController();
    surveyScores(BINS, mine.signal).then(setScores, (error: unknown) => {
      if (!mine.signal.aborted) notify(error instanceof Error ? error.message : "The scores could not be read.");
    });
    return () => mine.abort();
  }, [open, wanted, example, current.least]);
  if (!wanted) return null;
  const { counts, edges } = scores ?? { counts: [], edges: [] };
  const [worst, best] = [edges[0] ?? 0, edges.at(-1) ?? 1];
  // The tallest range may hold nearly all records: roots keep the others visible.
  const most = Math.sqrt(Math.max(1, ...counts));
  const now = at ?? current.least ?? worst;
  const about = at !== null && at > worst;
  const pass = !scores ? 0 : about ? passing(counts, edges, at) : at !== null ? scores.matched : scores.passing;
  return (
    <details class="filter threshold" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Minimum score</summary>
      {scores === null && <p class="small faint">Counting the scores …</p>}
      {scores !== null && counts.length > 0 && (
        <>
          <svg
            viewBox={`0 0 ${BINS} 24`}
            preserveAspectRatio="none"
            role="img"
            aria-label={`Histogram of ${count(scores.matched)} scores from ${worst.toFixed(3)} to ${best.toFixed(3)}; heights are square roots`}
          >
            {counts.map((n, place) => {
              const height = (24 * Math.sqrt(n)) / most;
              return <rect key={place} class={(edges[place + 1] ?? 0) <= now ? "below" : undefined} x={place} width="0.9" y={24 - height} height={height} />;
            })}
          </svg>
          <input
            type="range"
            aria-label="Minimum score"
            aria-valuetext={`${now.toFixed(3)}, ${pass} records`}
            min={worst}
            max={best}
            step="any"
            value={now}
            onInput={(event) => setAt(Number(event.currentTarget.value))}
            onChange={(event) => {
              const least = Math.floor(Number(event.currentTarget.value) * 1000 + 1e-6) / 1000;
              ask({ least: least <= worst ? null : least });
            }}
          />
          <p class="small" role="status">
            {`${about ? "About " : ""}${count(pass)} of ${count(scores.matched)} ${scores.matched === 1 ? "record has" : "records have"} a score of ${now.toFixed(3)} or more`}
          </p>
          {current.least !== null && (
            <button type="button" class="link" onClick={() => ask({ least: null })}>
              Show all scores
            </button>
          )}
        </>
      )}
      <ValueField
        id="percentile"
        label="Minimum percentile"
        placeholder="none"
        value={current.percentile}
        write={String}
        read={readPercentile}
        says="Results are at least as close as this percentage of nearest neighbors in the archive."
        wrong="Enter a number above 0, at most 100."
        onChange={(percentile) => ask({ percentile })}
      />
    </details>
  );
}
