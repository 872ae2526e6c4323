import { afterEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../src/api";
import { Sharpener, sideFor, placed } from "../src/sharp";

const thumbnail = { width: 96, height: 48 };

describe("the side to ask for", () => {
  it("is none where the thumbnail is large enough", () => {
    expect(sideFor(thumbnail, 48)).toBeNull();
    expect(sideFor(thumbnail, 52)).toBeNull();
    expect(sideFor({ width: 0, height: 0 }, 100)).toBeNull();
  });

  it("is in steps, of the longer side, and bounded", () => {
    expect(sideFor({ width: 96, height: 96 }, 176)).toBe(256);
    expect(sideFor(thumbnail, 176)).toBe(512);
    expect(sideFor(thumbnail, 1e6)).toBe(2048);
  });
});

/** A service whose answers wait until they are let go. */
class Service {
  readonly asked: string[] = [];
  readonly signals: (AbortSignal | undefined)[] = [];
  private readonly held: ((status: number) => void)[] = [];

  chipUrl(id: string, archive: string | null, side = 512): string {
    return `${archive}/${id}/${side}`;
  }

  image(url: string, signal?: AbortSignal): Promise<Blob> {
    this.asked.push(url);
    this.signals.push(signal);
    return new Promise((done, failed) =>
      this.held.push((status) => (status === 200 ? done(new Blob([url])) : failed(new ApiError(status, "no", status === 429 ? 7 : null)))),
    );
  }

  async answer(status: number): Promise<void> {
    this.held.shift()?.(status);
    for (let i = 0; i < 9; i += 1) await Promise.resolve();
  }
}

function started() {
  const service = new Service();
  const sharpener = new Sharpener(service);
  const stop = new AbortController();
  const ask = (id: string, archive = "a", urgent = false) => sharpener.ask(id, archive, 256, stop.signal, urgent);
  return { service, ask, stop };
}

describe("sharp images", () => {
  afterEach(() => void vi.useRealTimers());

  it("are asked for one at a time, urgent ones first", async () => {
    const { service, ask } = started();
    const first = ask("1");
    void ask("2");
    void ask("3", "a", true);
    expect(service.asked).toEqual(["a/1/256"]);
    await service.answer(200);
    expect((await first)?.size).toBe(7);
    expect(service.asked).toEqual(["a/1/256", "a/3/256"]);
    await service.answer(200);
    expect(service.asked).toEqual(["a/1/256", "a/3/256", "a/2/256"]);
  });

  it("cost one request where an archive's sources are gone, whatever others hold", async () => {
    const { service, ask } = started();
    const all = ["1", "2", "3"].map((id) => ask(id));
    const other = ask("1", "b");
    await service.answer(404);
    expect(await Promise.all(all)).toEqual([null, null, null]);
    await service.answer(200);
    expect(await other).not.toBeNull();
    expect(await ask("4")).toBeNull();
    expect(service.asked).toEqual(["a/1/256", "b/1/256"]);
  });

  it("go on after one broken file, and after a busy server when it says", async () => {
    vi.useFakeTimers();
    const { service, ask } = started();
    const [, , third] = [ask("1"), ask("2"), ask("3")];
    await service.answer(422);
    await service.answer(429);
    await vi.advanceTimersByTimeAsync(6_999);
    expect(service.asked).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(1);
    await service.answer(200);
    expect(await third).not.toBeNull();
  });

  it("ask once whether there are sources, though the first image is not wanted any more", async () => {
    const { service, ask, stop } = started();
    const first = ask("1");
    stop.abort();
    expect(service.signals).toEqual([undefined]);
    await service.answer(404);
    expect(await first).toBeNull();
    expect(await ask("2")).toBeNull();
    expect(service.asked).toHaveLength(1);
  });

  it("are not fetched when they are not wanted any more", async () => {
    const { service, ask, stop } = started();
    const [, second] = [ask("1"), ask("2")];
    stop.abort();
    await service.answer(200);
    expect(await second).toBeNull();
    expect(service.asked).toHaveLength(1);
  });
});

describe("placed", () => {
  const seen = (naturalWidth: number, naturalHeight: number, clientWidth: number, clientHeight: number) =>
    placed([0.5, 0.25, 1, 0.75], { naturalWidth, naturalHeight, clientWidth, clientHeight });
  it("is the part itself where the whole image is shown", () => {
    expect(seen(200, 100, 100, 50)).toEqual({ left: "50%", top: "25%", right: "0%", bottom: "25%" });
  });
  it("follows an image that is cut to a square", () => {
    // Twice as wide as high: the shown square is the middle half of its width.
    expect(seen(200, 100, 50, 50)).toEqual({ left: "50%", top: "25%", right: "0%", bottom: "25%" });
    expect(seen(100, 200, 50, 50)).toEqual({ left: "50%", top: "0%", right: "0%", bottom: "0%" });
  });
});
