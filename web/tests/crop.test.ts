import { describe, expect, it } from "vitest";
import { between, cropKey, fitted, isWhole, middle, moved, resized, SMALLEST, type Handle } from "../src/search/crop";
import type { Crop } from "../src/state";

const size = { width: 200, height: 100 };
const crop: Crop = { col: 50, row: 20, width: 60, height: 40 };

function inside(found: Crop, of = size): boolean {
  return (
    [found.col, found.row, found.width, found.height].every(Number.isInteger) &&
    found.col >= 0 &&
    found.row >= 0 &&
    found.width >= 1 &&
    found.height >= 1 &&
    found.col + found.width <= of.width &&
    found.row + found.height <= of.height
  );
}

describe("crop geometry", () => {
  it("draws between two corners in any order", () => {
    const wanted = { col: 10, row: 20, width: 90, height: 50 };
    expect(between(10, 20, 100, 70, size)).toEqual(wanted);
    expect(between(100, 70, 10, 20, size)).toEqual(wanted);
  });
  it("cuts off what is drawn outside", () => {
    expect(between(-50, -50, 999, 999, size)).toEqual({ col: 0, row: 0, width: 200, height: 100 });
  });
  it("moves without changing the size", () => {
    expect(moved(crop, 1000, -1000, size)).toEqual({ col: 140, row: 0, width: 60, height: 40 });
  });
  it("keeps the sides that are not dragged", () => {
    expect(resized(crop, { x: -1, y: 0 }, 10, 99, size)).toEqual({ col: 60, row: 20, width: 50, height: 40 });
    expect(resized(crop, { x: 1, y: 1 }, 10, 10, size)).toEqual({ col: 50, row: 20, width: 70, height: 50 });
  });
  it("does not turn inside out", () => {
    expect(resized(crop, { x: -1, y: -1 }, 999, 999, size)).toEqual({
      col: 110 - SMALLEST,
      row: 60 - SMALLEST,
      width: SMALLEST,
      height: SMALLEST,
    });
    expect(resized(crop, { x: 1, y: 0 }, -999, 0, size)).toMatchObject({ col: 50, width: SMALLEST });
  });
  it("stays inside whatever is dragged where", () => {
    const turns = [-1, 0, 1] as const;
    for (const of of [size, { width: 7, height: 3 }, { width: 16, height: 5000 }, { width: 1, height: 1 }])
      for (const x of turns)
        for (const y of turns)
          for (const by of [-1e6, -13.7, 0, 0.4, 25, 1e6]) {
            const handle: Handle = { x, y };
            expect(inside(resized(middle(of), handle, by, -by, of), of)).toBe(true);
            expect(inside(moved(middle(of), by, by, of), of)).toBe(true);
            expect(inside(between(by, 0, 3, by, of), of)).toBe(true);
          }
  });
  it("begins in the middle", () => {
    expect(middle(size)).toEqual({ col: 70, row: 20, width: 60, height: 60 });
  });
  it("fits a region of another image", () => {
    expect(inside(fitted({ col: 5000, row: 5000, width: 9000, height: 9000 }, size))).toBe(true);
  });
  it("knows the whole image", () => {
    expect(isWhole({ col: 0, row: 0, width: 200, height: 100 }, size)).toBe(true);
    expect(isWhole(crop, size)).toBe(false);
  });
  it("moves by arrows, resizes with Shift, and leaves other keys alone", () => {
    expect(cropKey(crop, "ArrowRight", false, size)).toEqual({ ...crop, col: 53 });
    expect(cropKey(crop, "ArrowDown", true, size)).toEqual({ ...crop, height: 43 });
    expect(cropKey(crop, "a", false, size)).toBeNull();
  });
});
