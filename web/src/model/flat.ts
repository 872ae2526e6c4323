/** Points of the embedding map on a canvas: where they lie, which is near, which comes next. */

export interface View {
  /** Pixels per unit of the map. */
  readonly scale: number;
  /** The point at the center of the canvas. */
  readonly x: number;
  readonly y: number;
}

export interface Cloud {
  readonly x: readonly number[];
  readonly y: readonly number[];
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

const MARGIN = 24;

/** Return the view that shows all points, both axes to the same scale. */
export function fitted({ x, y }: Cloud, { width, height }: Size): View {
  const [left, right] = ends(x);
  const [low, high] = ends(y);
  const scale = Math.min(
    Math.max(1, width - 2 * MARGIN) / Math.max(right - left, 1e-6),
    Math.max(1, height - 2 * MARGIN) / Math.max(high - low, 1e-6),
  );
  return { scale, x: (left + right) / 2, y: (low + high) / 2 };
}

/** Return the position of a point in pixels, with y upward. */
export function onCanvas(view: View, size: Size, x: number, y: number): [number, number] {
  return [size.width / 2 + (x - view.x) * view.scale, size.height / 2 - (y - view.y) * view.scale];
}

/** Return the nearest point within so many pixels of a place, of those that `shown` lets through. */
export function nearest(
  cloud: Cloud,
  view: View,
  size: Size,
  at: readonly [number, number],
  reach: number,
  shown: (i: number) => boolean = () => true,
): number | null {
  let best: number | null = null;
  let least = reach * reach;
  for (let i = 0; i < cloud.x.length; i++) {
    if (!shown(i)) continue;
    const [x, y] = onCanvas(view, size, cloud.x[i] as number, cloud.y[i] as number);
    const far = (x - at[0]) ** 2 + (y - at[1]) ** 2;
    if (far <= least) [best, least] = [i, far];
  }
  return best;
}

/** A place on the canvas in pixels. */
export type Spot = readonly [number, number];

/** Return the points inside a closed path on the canvas. */
export function within(cloud: Cloud, view: View, size: Size, path: readonly Spot[]): number[] {
  const found: number[] = [];
  if (path.length < 3) return found;
  for (let i = 0; i < cloud.x.length; i++) {
    const [x, y] = onCanvas(view, size, cloud.x[i] as number, cloud.y[i] as number);
    let inside = false;
    for (const [j, [ax, ay]] of path.entries()) {
      const [bx, by] = path[(j || path.length) - 1] as Spot;
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
    }
    if (inside) found.push(i);
  }
  return found;
}

/**
 * Return the point to go to with an arrow key: the nearest of those that lie more in that direction
 * than across it; the same point where there is none.
 */
export function step(cloud: Cloud, from: number, dx: number, dy: number, shown: (i: number) => boolean = () => true): number {
  let best = from;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < cloud.x.length; i++) {
    const x = (cloud.x[i] as number) - (cloud.x[from] as number);
    const y = (cloud.y[i] as number) - (cloud.y[from] as number);
    const along = x * dx + y * dy;
    const across = Math.abs(x * dy - y * dx);
    if (i === from || along <= 0 || across > along || !shown(i)) continue;
    const far = along + 2 * across;
    if (far < least) [best, least] = [i, far];
  }
  return best;
}

/** Return a view moved by pixels. */
export function moved(view: View, dx: number, dy: number): View {
  return { ...view, x: view.x - dx / view.scale, y: view.y + dy / view.scale };
}

export function zoomed(view: View, by: number, whole: View): View {
  return { ...view, scale: Math.min(Math.max(view.scale * by, whole.scale * 0.8), whole.scale * 40) };
}

/** Category colors that are distinguishable without red-green vision; further categories reuse them with another shape. */
export const PALETTE = {
  light: ["#0072b2", "#d55e00", "#007a5a", "#b5489a", "#8a6d00", "#3b9ad1", "#7b3294", "#4d4d4d"],
  dark: ["#56b4e9", "#ff8f4d", "#2fd6a6", "#f29ac9", "#f0e442", "#9db8ff", "#d3a0f0", "#e0e0e0"],
  rest: { light: "#a5a79f", dark: "#5d6870" },
} as const;

/** How kinds are drawn: the most frequent as discs, then triangles, then squares; all others as gray discs. */
export const SHAPES = ["disc", "triangle", "square"] as const;
const COLORS = PALETTE.light.length;

export function kindShape(kind: number): (typeof SHAPES)[number] {
  return SHAPES[Math.floor(kind / COLORS)] ?? "disc";
}

export function kindColor(kind: number, dark: boolean): string {
  const colors: readonly string[] = dark ? PALETTE.dark : PALETTE.light;
  return colors[kind < SHAPES.length * COLORS ? kind % COLORS : COLORS] ?? (dark ? PALETTE.rest.dark : PALETTE.rest.light);
}

function ends(values: readonly number[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [0, 0];
}
