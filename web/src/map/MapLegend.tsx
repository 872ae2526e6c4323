import type { MapColors } from "./colors";
import { mixed } from "./colors";
import type { Grid } from "./chart";
import type { Drawn, Paint } from "./places";

interface Props {
  colors: MapColors;
  paint: Paint;
  /** What all records are drawn as; null where hits alone are shown. */
  drawn: Drawn | null;
  /** Number of hits that are drawn by rank; 0 for none. */
  ranked: number;
  marks: { good: boolean; bad: boolean };
  grid: Grid | null;
}

/** What the colors of the map mean, and its scale. */
export function MapLegend({ colors, paint, drawn, ranked, marks, grid }: Props) {
  const share = [0, 0.25, 0.5, 0.75, 1].map((part) => mixed(colors.without, colors.ranks[1] as string, part));
  return (
    <div class="map-legend" aria-hidden="true">
      {drawn && paint.kind === "label" ? (
        <Ramp from="0 %" colors={share} to={`100 % ${paint.name}`} />
      ) : ranked > 0 ? (
        <Ramp from="rank 1" colors={colors.ranks} to={String(ranked)} />
      ) : (
        drawn?.scores && <Ramp from={drawn.scores[1].toFixed(2)} colors={colors.ranks} to={`${drawn.scores[0].toFixed(2)} score`} />
      )}
      {marks.good && <span class="map-key map-good">good</span>}
      {marks.bad && <span class="map-key map-bad">bad</span>}
      {grid && (
        <span class="map-scale" style={{ width: `${grid.scale.pixels}px` }}>
          {grid.scale.text}
        </span>
      )}
    </div>
  );
}

function Ramp({ from, colors, to }: { from: string; colors: readonly string[]; to: string }) {
  return (
    <span class="map-key">
      {from}
      <span class="map-ramp">
        {colors.map((color) => (
          <i key={color} style={{ background: color }} />
        ))}
      </span>
      {to}
    </span>
  );
}
