import { expect, it } from "vitest";
import { histogram, passing } from "../src/search/scores";

it("counts scores by steps, the best in the last", () => {
  expect(histogram([1, 0.9, 0.5, 0.1, 0], 2)).toEqual([2, 3]);
  expect(histogram([0.5, 0.5], 3)).toEqual([2, 0, 0]);
  expect(histogram([], 2)).toEqual([0, 0]);
});

it("counts what passes a threshold, the threshold included", () => {
  expect(passing([0.9, 0.5, 0.5, 0.1], 0.5)).toBe(3);
});
