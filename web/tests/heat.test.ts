import { describe, expect, it, vi } from "vitest";
import { Api } from "../src/api";
import { regionsOf } from "../src/heat/known";
import { heatColor, rangeOf, describePeak, shareOf, valueAt } from "../src/heat/ramp";

const light = ([red, green, blue]: readonly number[]) =>
  0.2126 * (red as number) + 0.7152 * (green as number) + 0.0722 * (blue as number);

describe("the ramp", () => {
  it("gets lighter and denser from low to high, whatever the hue", () => {
    const colors = Array.from({ length: 21 }, (_, i) => heatColor(i / 20));
    for (let i = 1; i < colors.length; i++) {
      const [before, now] = [colors[i - 1] as readonly number[], colors[i] as readonly number[]];
      expect(light(now)).toBeGreaterThan(light(before));
      expect(now[3]).toBeGreaterThan(before[3] as number);
    }
  });

  it("stays at its ends beyond them", () => {
    expect(heatColor(-3)).toEqual(heatColor(0));
    expect(heatColor(9)).toEqual(heatColor(1));
  });

  it("has one range for both images", () => {
    expect(rangeOf([[[1, 2]], [[-1], [5]]])).toEqual([-1, 5]);
    expect(shareOf(2, [-1, 5])).toBe(0.5);
    expect(rangeOf([[[3, 3]], []])).toEqual([0, 3]);
    expect(rangeOf([[[-3, -1]]])).toEqual([-3, 0]);
    expect(rangeOf([[[0, 0]]])).toEqual([0, 1]);
  });
});

describe("a grid over an image", () => {
  const grid = [
    [0, 10],
    [20, 30],
  ];

  it("has its values at the middles of cells", () => {
    expect(valueAt(grid, 0.25, 0.25)).toBe(0);
    expect(valueAt(grid, 0.75, 0.25)).toBe(10);
    expect(valueAt(grid, 0.25, 0.75)).toBe(20);
  });

  it("is mixed between them and flat at the edges", () => {
    expect(valueAt(grid, 0.5, 0.5)).toBe(15);
    expect(valueAt(grid, 0, 0)).toBe(0);
    expect(valueAt(grid, 1, 1)).toBe(30);
    expect(valueAt([[7]], 0.3, 0.9)).toBe(7);
  });

  it("has its peak said in words", () => {
    expect(describePeak([[9, 1, 1], [1, 1, 1], [1, 1, 1]])).toBe("the top left");
    expect(describePeak([[1, 1, 1], [1, 9, 1], [1, 1, 1]])).toBe("the center");
    expect(describePeak([[1, 1, 1], [1, 1, 9], [1, 1, 1]])).toBe("the right");
    expect(describePeak([[1, 1, 1], [1, 1, 1], [1, 9, 1]])).toBe("the bottom");
  });
});

describe("asking for regions", () => {
  const answer = { archive: "a", id: "x", similarity: 0.5, record: { parts: [[1]], cosines: [[1]] }, query: null };
  const api = (send: typeof fetch) => new Api({ get: () => "", set: () => undefined }, "", send);

  it("is done once for both images, and again after a failure", async () => {
    let works = false;
    const send = vi.fn(async () => (works ? Response.json(answer) : new Response("no", { status: 503 })));
    const client = api(send);
    await expect(regionsOf(client, "a", { id: "q" }, "one")).rejects.toThrow();
    works = true;
    const [first, second] = [regionsOf(client, "a", { id: "q" }, "one"), regionsOf(client, "a", { id: "q" }, "one")];
    expect(await first).toEqual(await second);
    expect(send).toHaveBeenCalledTimes(2);
  });

  it("sends an uploaded image as its search does", async () => {
    const send = vi.fn<typeof fetch>(async () => Response.json(answer));
    const image = new Blob(["pixels"], { type: "image/png" });
    await regionsOf(api(send), "a", { image }, "harbor/one.tif");
    const [url, init] = send.mock.calls[0] as [string, RequestInit];
    expect(url).toBe("/v1/records/harbor/one.tif/regions");
    const form = init.body as FormData;
    expect(JSON.parse(form.get("request") as string)).toEqual({ archive: "a" });
    expect((form.get("image") as Blob).size).toBe(6);
  });
});
