import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { barsOf, formatNumber, type Order } from "./numbers";
import type { LabelScore } from "../types";

const FIRST = 20;

/** Return the first of many labels, and the button that shows all. */
export function useFirst<T>(labels: readonly T[]): [readonly T[], ComponentChildren] {
  const [all, setAll] = useState(false);
  if (labels.length <= FIRST) return [labels, null];
  const button = (
    <button type="button" class="tool" aria-expanded={all} onClick={() => setAll(!all)}>
      {all ? `First ${FIRST} labels only` : `All ${labels.length} labels`}
    </button>
  );
  return [all ? labels : labels.slice(0, FIRST), button];
}

/** How well the images with each label are found: bars for the eye, a table for everything else. */
export function LabelBars({ labels, training }: { labels: Record<string, LabelScore>; training: Record<string, number> }) {
  const [order, setOrder] = useState<Order>("score");
  const [bars, button] = useFirst(barsOf(labels, order));
  const trained = Object.keys(training).length > 0;
  return (
    <>
      <div class="model-switch" role="group" aria-label="Order of labels">
        {(["score", "frequency"] as const).map((one) => (
          <button type="button" key={one} class="tool" aria-pressed={order === one} onClick={() => setOrder(one)}>
            {one === "score" ? "Best first" : "Rarest first"}
          </button>
        ))}
      </div>
      <table class="bars">
        <caption class="sr-only">
          Mean average precision of the images that carry each label, {order === "score" ? "best" : "rarest"} first.
        </caption>
        <thead>
          <tr>
            <th scope="col">Label</th>
            <th scope="col">Frequency</th>
            <th scope="col">
              mAP <small>and chance level</small>
            </th>
            <th scope="col">Images</th>
            {trained && <th scope="col">Training images</th>}
          </tr>
        </thead>
        <tbody>
          {bars.map((bar) => (
            <tr key={bar.name}>
              <th scope="row">{bar.name}</th>
              <td>
                <span class={`third third-${bar.third ?? "none"}`}>{bar.third ?? "–"}</span>
              </td>
              <td class="bar-cell">
                <span class="bar" aria-hidden="true">
                  <i style={{ width: `${100 * (bar.mAP ?? 0)}%` }} class={`bar-${bar.third ?? "none"}`} />
                  {bar.chance !== null && <b style={{ left: `${100 * bar.chance}%` }} />}
                </span>
                <span class="bar-number">{formatNumber(bar.mAP)}</span>
                <span class="sr-only">, by chance {formatNumber(bar.chance)}</span>
              </td>
              <td class="number">{bar.n_gallery.toLocaleString("en")}</td>
              {trained && <td class="number">{training[bar.name]?.toLocaleString("en") ?? "–"}</td>}
            </tr>
          ))}
        </tbody>
      </table>
      {button}
      <p class="model-hint">
        The tick on each bar marks the chance level. Labels are split into rare, medium and frequent thirds by the number of
        images searched.
      </p>
    </>
  );
}
