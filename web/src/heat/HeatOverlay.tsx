import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api";
import "./heat.css";
import { regionsOf } from "./known";
import type { HeatProps } from "./props";
import { cssColor, heatColor, rangeOf, describePeak, shareOf, valueAt } from "./ramp";
import type { RegionsAnswer } from "../types";

const SIDE = 96;

/**
 * Similar regions of query and hit, drawn over one of the two images. The colors of both share a
 * scale; the legend lies below the hit.
 */
export default function HeatOverlay({ api, archive, query, id, side }: HeatProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [found, setFound] = useState<RegionsAnswer | null>(null);
  const [trouble, setTrouble] = useState("");
  const key = "id" in query ? query.id : query.image;

  useEffect(() => {
    let wanted = true;
    setFound(null);
    setTrouble("");
    regionsOf(api, archive, query, id).then(
      (answer) => wanted && setFound(answer),
      (error: unknown) => {
        if (wanted) setTrouble(error instanceof ApiError ? error.message : "Similar regions could not be loaded.");
      },
    );
    return () => {
      wanted = false;
    };
  }, [api, archive, key, id]);

  const grid = side === "hit" ? found?.record.parts : found?.query?.parts;
  const range = found ? rangeOf([found.record.parts, found.query?.parts ?? []]) : null;
  // Before the first paint: the canvas is never seen empty.
  useLayoutEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !grid || !range) return;
    const image = context.createImageData(SIDE, SIDE);
    for (let y = 0; y < SIDE; y++) {
      for (let x = 0; x < SIDE; x++) {
        const value = valueAt(grid, (x + 0.5) / SIDE, (y + 0.5) / SIDE);
        const [red, green, blue, alpha] = heatColor(shareOf(value, range));
        image.data.set([red, green, blue, Math.round(alpha * 255)], 4 * (y * SIDE + x));
      }
    }
    context.putImageData(image, 0, 0);
  }, [grid]);

  if (trouble) return side === "hit" ? <p class="heat-note" role="status">{trouble}</p> : null;
  if (!found) return side === "hit" ? <p class="heat-note" role="status">Comparing regions …</p> : null;
  if (!grid || !range) return null;
  const other = side === "hit" ? "the query" : "the result";
  return (
    <>
      <canvas
        ref={canvas}
        class="heat"
        width={SIDE}
        height={SIDE}
        role="img"
        aria-label={`Regions like ${other}: most similar at ${describePeak(grid)} of the image.`}
      />
      {side === "hit" && <Legend range={range} />}
    </>
  );
}

function Legend({ range }: { range: readonly [number, number] }) {
  const shares = [0, 0.2, 0.4, 0.6, 0.8, 1];
  return (
    <p class="heat-legend">
      <span>{range[0].toFixed(2)}</span>
      <span class="heat-ramp" aria-hidden="true">
        {shares.map((share) => (
          <i key={share} style={{ background: cssColor(heatColor(share)) }} />
        ))}
      </span>
      <span>{range[1].toFixed(2)}</span>
    </p>
  );
}
