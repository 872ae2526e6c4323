import { useEffect, useState } from "preact/hooks";
import { api, ask, notify, state } from "../store";
import { MOST_HITS } from "../state";
import { histogram, passing } from "./scores";
import { hasExample, requestOf, searchKey } from "./request";
import { imageOf } from "./run";
import { count } from "./why";

/** The smallest score that results have, chosen on a histogram of the best scores. */
export function Threshold() {
  const current = state.value;
  const [open, setOpen] = useState(current.least !== null);
  const [scores, setScores] = useState<readonly number[] | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const wanted = hasExample(current);
  const key = searchKey({ ...current, least: null, k: 1, pages: 1 });
  useEffect(() => {
    setScores(null);
    setAt(null);
    if (!open || !wanted) return;
    const mine = new AbortController();
    void (async () => {
      try {
        const image = await imageOf(state.value);
        if (image === undefined) return;
        const { min_score: _, ...request } = requestOf(state.value);
        const answer = await api.search({ ...request, k: MOST_HITS, predicted: false }, image, mine.signal);
        setScores(answer.hits.map((hit) => hit.score));
      } catch (error) {
        if (!mine.signal.aborted) notify(error instanceof Error ? error.message : "The scores could not be read.");
      }
    })();
    return () => mine.abort();
  }, [open, wanted, key]);
  if (!wanted) return null;
  const [best, worst] = [scores?.[0] ?? 1, scores?.at(-1) ?? 0];
  const bars = scores ? histogram(scores, 40) : [];
  const most = Math.max(1, ...bars);
  const now = at ?? current.least ?? worst;
  const pass = scores ? passing(scores, now) : 0;
  const all = scores !== null && scores.length >= MOST_HITS && pass >= MOST_HITS;
  const share = best > worst ? Math.min(1, Math.max(0, (now - worst) / (best - worst))) : 0;
  return (
    <details class="filter threshold" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Minimum score</summary>
      {scores === null && <p class="small faint">Reading the scores …</p>}
      {scores !== null && scores.length > 0 && (
        <>
          <svg viewBox="0 0 40 24" preserveAspectRatio="none" role="img" aria-label={`Histogram of ${scores.length} scores from ${worst.toFixed(3)} to ${best.toFixed(3)}`}>
            {bars.map((bar, place) => (
              <rect key={place} class={(place + 1) / 40 <= share ? "below" : undefined} x={place} width="0.9" y={24 - (24 * bar) / most} height={(24 * bar) / most} />
            ))}
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
              setAt(null);
              ask({ least: least <= worst ? null : least });
            }}
          />
          <p class="small" role="status">
            {`${all ? "At least " : ""}${count(pass)} ${pass === 1 ? "record has" : "records have"} ${now.toFixed(3)} or more`}
          </p>
          {current.least !== null && (
            <button type="button" class="link" onClick={() => ask({ least: null })}>
              Show all scores
            </button>
          )}
        </>
      )}
    </details>
  );
}
