import { useState } from "preact/hooks";
import { barsOf, formatNumber, type Order } from "./numbers";
import type { LabelScore } from "../types";

/** How well the images with each label are found: bars for the eye, a table for everything else. */
export function LabelBars({ labels, training }: { labels: Record<string, LabelScore>; training: Record<string, number> }) {
  const [order, setOrder] = useState<Order>("score");
  const bars = barsOf(labels, order);
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
            {trained && <th scope="col">Trained on</th>}
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
      <p class="model-hint">
        The tick on each bar marks the chance level. Labels are split into rare, medium and frequent thirds by the number of
        images searched.
      </p>
    </>
  );
}
