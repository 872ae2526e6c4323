import { useEffect, useState } from "preact/hooks";
import { Sharp } from "../Sharp";
import type { Moment } from "../types";
import type { TimelineProps } from "./props";
import "./change.css";

interface Source {
  readonly id: string;
  readonly archive: string | null;
}
type Placed = Moment & Source;
const keyOf = ({ id, archive }: Source) => JSON.stringify([id, archive]);

/** The dates of one place: two of them are compared by a divider that mouse and arrow keys move. */
export default function Timeline({ api, id, archive, other: given }: TimelineProps) {
  const [moments, setMoments] = useState<readonly Placed[] | string>("Loading …");
  const [other, setOther] = useState<string | null>(given ? keyOf(given) : null);
  const [at, setAt] = useState(50);
  useEffect(() => {
    setOther(given ? keyOf(given) : null);
    const stop = new AbortController();
    const sources = [{ id, archive }, ...(given && given.archive !== archive ? [given] : [])];
    const read = async (one: Source): Promise<readonly Placed[]> => {
      const { moments } = await api.timeline(one.id, one.archive, stop.signal);
      // Between the dates of two archives there are others, which the distances leave out.
      return moments.map((moment) => ({ ...moment, archive: one.archive, distance: sources.length > 1 ? null : moment.distance }));
    };
    Promise.all(sources.map(read)).then(
      (found) => setMoments(found.flat().sort((a, b) => a.datetime.localeCompare(b.datetime))),
      (error: Error) => stop.signal.aborted || setMoments(error.message),
    );
    return () => stop.abort();
  }, [id, archive, given?.id, given?.archive]);
  if (typeof moments === "string") return <p class="small" role="status">{moments}</p>;
  const day = (one: Moment) => one.datetime.slice(0, 10);
  const here = moments.find((one) => keyOf(one) === keyOf({ id, archive }));
  const others = moments.filter((one) => one !== here);
  const chosen = others.find((one) => keyOf(one) === other) ?? others.at(-1);
  if (!here || !chosen) return <p class="small" role="status">This place was recorded once.</p>;
  const [early, late] = [here, chosen].sort((a, b) => a.datetime.localeCompare(b.datetime)) as [Placed, Placed];
  return (
    <section class="timeline" aria-label="Dates of this place">
      <div class="swipe">
        <Sharp id={early.id} archive={early.archive} alt={`${day(early)}: ${early.id}`} eager />
        <div class="swipe-late" style={{ clipPath: `inset(0 0 0 ${at}%)` }}>
          <Sharp id={late.id} archive={late.archive} alt={`${day(late)}: ${late.id}`} eager />
        </div>
        <span class="swipe-line" style={{ left: `${at}%` }} />
        <input
          type="range"
          min={0}
          max={100}
          value={at}
          aria-label={`Divider between ${day(early)} and ${day(late)}`}
          onInput={(event) => setAt(Number(event.currentTarget.value))}
        />
      </div>
      <p class="swipe-label small mono">
        <span>{`◂ ${day(early)}`}</span>
        <span>{`${day(late)} ▸`}</span>
      </p>
      <ul class="moments">
        {moments.map((one) => (
          <li key={keyOf(one)}>
            <button type="button" class="tool" aria-pressed={one === chosen || one === here} disabled={one === here} onClick={() => setOther(keyOf(one))}>
              {day(one)}
              {one.distance !== null && <span class="faint mono"> {one.distance.toFixed(2)}</span>}
            </button>
          </li>
        ))}
      </ul>
      {moments.some((one) => one.distance !== null) && <p class="small faint">Numbers are distances to the previous date.</p>}
    </section>
  );
}
