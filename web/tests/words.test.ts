import { describe, expect, it } from "vitest";
import { meant } from "../src/search/words";
import { requestOf } from "../src/search/request";
import { fromQuery, START, toQuery } from "../src/state";

const LABELS = ["airplane", "runway", "bare-soil", "buildings", "ships", "dock", "trees", "mobile-home", "tanks", "water"];

describe("meant", () => {
  it.each([
    ["airfield", "related", ["airplane", "runway"]],
    ["Bare soil", "same", ["bare-soil"]],
    ["ship", "same", ["ships"]],
    ["the woods", "related", ["trees"]],
    ["buildngs", "similar", ["buildings"]],
    ["glacier", "same", []],
  ] as const)("%s is %s to %j", (text, how, labels) =>
    expect(meant(text, LABELS)).toEqual(labels.map((label) => ({ label, how }))),
  );
  it("joins the labels of several words", () =>
    expect(meant("water with tanks", LABELS).map((one) => one.label)).toEqual(["water", "tanks"]));
});

it("keeps a text in the address and in the request", () => {
  const state = { ...START, query: { kind: "text", text: "a harbor & boats" } as const };
  expect(fromQuery(toQuery(state))).toEqual(state);
  expect(requestOf(state)).toMatchObject({ text: "a harbor & boats" });
});
