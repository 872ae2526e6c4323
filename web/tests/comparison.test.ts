import { describe, expect, it } from "vitest";
import { changeRequestOf, fieldOf } from "../src/change/comparison";
import { ALPHA, NO_FILTERS, type Comparison } from "../src/state";

const NONE: Comparison = { before: [null, null], after: [null, null], had: "", has: "", gained: [], lost: [], by: null, other: null, alpha: ALPHA };
const dates = (patch: Partial<Comparison>) => {
  const { before, after } = changeRequestOf({ ...NONE, ...patch }, NO_FILTERS, null, 5);
  return [before, after];
};

describe("the request of a comparison", () => {
  it("takes whole ranges as intervals", () => {
    expect(dates({ before: ["2012-01-01", "2012-06-30"], after: ["2013-01-01", "2013-06-30"] })).toEqual(["2012-01-01/2012-06-30", "2013-01-01/2013-06-30"]);
  });
  it("includes the last day before, where the first is open", () => {
    expect(dates({ before: [null, "2012-12-31"], after: ["2018-02-01", null] })).toEqual(["2013-01-01", "2018-02-01"]);
  });
  it("ends one range where the other begins", () => {
    expect(dates({ before: ["2012-01-01", null], after: ["2018-03-01", null] })).toEqual(["2012-01-01/2018-02-28", "2018-03-01"]);
    expect(dates({ before: [null, "2012-12-31"], after: [null, "2018-03-01"] })).toEqual(["2013-01-01", "2013-01-01/2018-03-01"]);
  });
  it("leaves out dates that are missing", () => {
    expect(dates({ after: ["2018-02-01", null] })).toEqual([undefined, "2018-02-01"]);
    expect(dates({ before: [null, "2018-02-01"] })).toEqual(["2018-02-02", undefined]);
  });
  it("names the archive of the later dates and the labels that changed", () => {
    const { archive, other, gained, lost, by } = changeRequestOf({ ...NONE, other: "b", gained: ["buildings"], lost: ["field", "trees"], by: "water" }, NO_FILTERS, "a", 5);
    expect([archive, other, gained, lost, by]).toEqual(["a", "b", ["buildings"], ["field", "trees"], "water"]);
    const plain = changeRequestOf(NONE, NO_FILTERS, null, 5);
    expect(Object.keys(plain)).toEqual(["alpha", "k"]);
  });
  it("takes the place, not the labels and dates of the search", () => {
    const filters = { ...NO_FILTERS, all: ["water"], from: "2012-01-01", box: [1, 2, 3, 4] as const };
    expect(changeRequestOf(NONE, filters, "a", 5).filters).toEqual({ bbox: [1, 2, 3, 4] });
  });
});

describe("the field of a message", () => {
  it.each([
    ["before: a date is missing: write 2013", "before"],
    ["before 2016 reaches past after 2013: use the earlier date as before, the later one as after", "before"],
    ["no record has a time that fits after 2030; times are 2012-07-01 to 2018-07-01", "after"],
    ["label expression 'water and', character 10: expected a label name", "has"],
    ["label expression 'grass or', character 9: expected a label name", "had"],
    ["the model has no scores for label 'grass or': did you mean 'grass'?", "by"],
    ["archives 'a' and 'b' were made by different models", "other"],
    ["no archive is called 'c'", "other"],
    ["no record matches bbox 1,1,2,2 (0 of 27 records)", null],
  ])("%s", (message, field) => expect(fieldOf(message, { ...NONE, had: "grass or", has: "water and" })).toBe(field));
});
