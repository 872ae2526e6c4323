import { expect, it } from "vitest";
import { passing } from "../src/search/scores";

it("counts what reaches a score, exactly at the edges and in proportion between them", () => {
  const [counts, edges] = [[10, 4, 2], [0, 0.25, 0.5, 0.75]];
  expect(passing(counts, edges, -1)).toBe(16);
  expect(passing(counts, edges, 0.25)).toBe(6);
  expect(passing(counts, edges, 0.375)).toBe(4);
  expect(passing(counts, edges, 0.75)).toBe(0);
  expect(passing([], [], 0.5)).toBe(0);
});
