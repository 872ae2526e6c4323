import { useEffect, useState } from "preact/hooks";
import { Sharp } from "../Sharp";
import type { Moment } from "../types";
import type { TimelineProps } from "./props";
import "./change.css";

/** The dates of one place: two of them are compared by a divider that mouse and arrow keys move. */
export default function Timeline({ api, id, archive, other: given }: TimelineProps) {
  const [moments, setMoments] = useState<readonly Moment[] | string>("Loading …");
  const [other, setOther] = useState<string | null>(given ?? null);
  const [at, setAt] = useState(50);
  useEffect(() => {
    setOther(given ?? null);
    const stop = new AbortController();
    api.timeline(id, archive, stop.signal).then(
      (answer) => setMoments(answer.moments),
      (error: Error) => stop.signal.aborted || setMoments(error.message),
    );
    return () => stop.abort();
  }, [id, archive, given]);
  if (typeof moments === "string") return <p class="small" role="status">{moments}</p>;
  const day = (one: Moment) => one.datetime.slice(0, 10);
  const here = moments.find((one) => one.id === id);
  const others = moments.filter((one) => one.id !== id);
  const chosen = others.find((one) => one.id === other) ?? others.at(-1);
  if (!here || !chosen) return <p class="small" role="status">This place was recorded once.</p>;
  const [early, late] = [here, chosen].sort((a, b) => a.datetime.localeCompare(b.datetime)) as [Moment, Moment];
  return (
    <section class="timeline" aria-label="Dates of this place">
      <div class="swipe">
        <Sharp id={early.id} archive={archive} alt={`${day(early)}: ${early.id}`} eager />
        <div class="swipe-late" style={{ clipPath: `inset(0 0 0 ${at}%)` }}>
          <Sharp id={late.id} archive={archive} alt={`${day(late)}: ${late.id}`} eager />
        </div>
        <span class="swipe-line" style={{ left: `${at}%` }} />
      </div>
      <label class="swipe-label small">
        <span class="mono">{day(early)}</span>
        <input
          type="range"
          min={0}
          max={100}
          value={at}
          aria-label={`Divider between ${day(early)} and ${day(late)}`}
          onInput={(event) => setAt(Number(event.currentTarget.value))}
        />
        <span class="mono">{day(late)}</span>
      </label>
      <ul class="moments">
        {moments.map((one) => (
          <li key={one.id}>
            <button type="button" class="tool" aria-pressed={one.id === chosen.id} disabled={one.id === id} onClick={() => setOther(one.id)}>
              {day(one)}
              {one.distance !== null && <span class="faint mono"> {one.distance.toFixed(2)}</span>}
            </button>
          </li>
        ))}
      </ul>
      <p class="small faint">The number is the distance to the date before.</p>
    </section>
  );
}
