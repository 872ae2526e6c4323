/** Geometry of the region that is cut from an image, in the image's own pixels. */

import type { Crop } from "../state";

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Which sides a drag moves: -1 the left or upper one, 1 the right or lower one, 0 neither. */
export interface Handle {
  readonly x: -1 | 0 | 1;
  readonly y: -1 | 0 | 1;
}

export const SMALLEST = 16;

/** Return the region that fits into the image, at least {@link SMALLEST} pixels where it can be. */
export function fitted(crop: Crop, size: Size): Crop {
  const width = clamp(Math.round(crop.width), Math.min(SMALLEST, size.width), size.width);
  const height = clamp(Math.round(crop.height), Math.min(SMALLEST, size.height), size.height);
  return {
    col: clamp(Math.round(crop.col), 0, size.width - width),
    row: clamp(Math.round(crop.row), 0, size.height - height),
    width,
    height,
  };
}

/** Return the region between two corners, in whichever order they were drawn. */
export function between(ax: number, ay: number, bx: number, by: number, size: Size): Crop {
  const [left, right] = [clamp(Math.min(ax, bx), 0, size.width), clamp(Math.max(ax, bx), 0, size.width)];
  const [top, bottom] = [clamp(Math.min(ay, by), 0, size.height), clamp(Math.max(ay, by), 0, size.height)];
  return fitted({ col: left, row: top, width: right - left, height: bottom - top }, size);
}

/** Move a region without changing its size. */
export function moved(crop: Crop, dx: number, dy: number, size: Size): Crop {
  return fitted({ ...crop, col: crop.col + dx, row: crop.row + dy }, size);
}

/** Drag some sides; those opposite stay where they are. */
export function resized(crop: Crop, handle: Handle, dx: number, dy: number, size: Size): Crop {
  const [col, width] = side(crop.col, crop.width, handle.x, dx, size.width);
  const [row, height] = side(crop.row, crop.height, handle.y, dy, size.height);
  return fitted({ col, row, width, height }, size);
}

/** Return the largest square in the middle: what to begin with. */
export function middle(size: Size): Crop {
  const edge = Math.max(1, Math.round(Math.min(size.width, size.height) * 0.6));
  return fitted(
    { col: (size.width - edge) / 2, row: (size.height - edge) / 2, width: edge, height: edge },
    size,
  );
}

/** Whether a region is the whole image. */
export function isWhole(crop: Crop, size: Size): boolean {
  return crop.width >= size.width && crop.height >= size.height;
}

/** Move or resize by keys: arrows move, with Shift they resize; steps of a 64th of the image. */
export function cropKey(crop: Crop, key: string, shift: boolean, size: Size): Crop | null {
  const step = Math.max(1, Math.round(Math.max(size.width, size.height) / 64));
  const steps: Record<string, [number, number]> = {
    ArrowLeft: [-step, 0],
    ArrowRight: [step, 0],
    ArrowUp: [0, -step],
    ArrowDown: [0, step],
  };
  const found = steps[key];
  if (!found) return null;
  return shift ? resized(crop, { x: 1, y: 1 }, ...found, size) : moved(crop, ...found, size);
}

function side(start: number, length: number, which: -1 | 0 | 1, by: number, most: number): [number, number] {
  if (which === 0) return [start, length];
  const least = Math.min(SMALLEST, most);
  const end = start + length;
  if (which > 0) return [start, clamp(end + by, Math.min(most, start + least), most) - start];
  const from = clamp(start + by, 0, Math.max(0, end - least));
  return [from, end - from];
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
