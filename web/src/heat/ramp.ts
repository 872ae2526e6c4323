/** Colors of the overlay: a ramp of rising lightness and opacity that needs no hue to be read. */

export type Rgba = readonly [number, number, number, number];

/** Dark violet over orange to pale yellow; low values stay nearly clear. Red, green, blue 0..255, alpha 0..1. */
const STOPS: readonly Rgba[] = [
  [27, 12, 65, 0.05],
  [104, 25, 108, 0.18],
  [187, 55, 84, 0.32],
  [243, 120, 25, 0.42],
  [252, 255, 164, 0.5],
];

/** Return the color of a share 0..1. */
export function heatColor(share: number): Rgba {
  const place = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  const [from, to] = [STOPS[low] as Rgba, STOPS[low + 1] as Rgba];
  const at = (i: number) => (from[i] as number) + ((to[i] as number) - (from[i] as number)) * (place - low);
  return [Math.round(at(0)), Math.round(at(1)), Math.round(at(2)), Number(at(3).toFixed(3))];
}

export function cssColor([red, green, blue, alpha]: Rgba): string {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}

/**
 * Return the ends of one scale for all grids, so that both images share it. It holds 0, where a
 * region adds nothing: an image that is similar everywhere is colored everywhere.
 */
export function rangeOf(grids: readonly (readonly number[])[][]): [number, number] {
  const values = grids.flat(2);
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  return high > low ? [low, high] : [0, 1];
}

/** Return a grid's place of a value between the ends of a range, 0..1. */
export function shareOf(value: number, [low, high]: readonly [number, number]): number {
  return (value - low) / (high - low);
}

/**
 * Return a grid's value at a point of the image, `x` and `y` in 0..1: values belong to the middles
 * of cells, between them they are mixed, beyond the outer middles they stay.
 */
export function valueAt(grid: readonly (readonly number[])[], x: number, y: number): number {
  const rows = grid.length;
  const columns = grid[0]?.length ?? 0;
  const [left, right, across] = between(x * columns - 0.5, columns);
  const [top, bottom, along] = between(y * rows - 0.5, rows);
  const value = (row: number, column: number) => grid[row]?.[column] ?? 0;
  const above = value(top, left) * (1 - across) + value(top, right) * across;
  const below = value(bottom, left) * (1 - across) + value(bottom, right) * across;
  return above * (1 - along) + below * along;
}

function between(place: number, n: number): [number, number, number] {
  const held = Math.min(Math.max(place, 0), n - 1);
  const low = Math.min(Math.floor(held), Math.max(0, n - 2));
  return [low, Math.min(low + 1, n - 1), held - low];
}

/** Say in words where a grid is highest: for those who do not see the colors. */
export function describePeak(grid: readonly (readonly number[])[]): string {
  let [best, row, column] = [-Infinity, 0, 0];
  grid.forEach((line, r) =>
    line.forEach((value, c) => {
      if (value > best) [best, row, column] = [value, r, c];
    }),
  );
  const third = (at: number, n: number) => Math.min(2, Math.floor(((at + 0.5) / n) * 3));
  const down = ["top", "middle", "bottom"][third(row, grid.length)] as string;
  const across = ["left", "center", "right"][third(column, grid[0]?.length ?? 1)] as string;
  if (down === "middle" && across === "center") return "the center";
  return down === "middle" ? `the ${across}` : across === "center" ? `the ${down}` : `the ${down} ${across}`;
}
