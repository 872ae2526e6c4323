/**
 * Images from the archive's sources, for where a thumbnail is shown larger than it is. They are requested
 * for one at a time, so that searches never wait for them, and no more where there are no sources.
 */

import { ApiError, type Api } from "./api";

const STEP = 256;
const MOST = 2048;

/** Return the side to ask for, in pixels; null where a thumbnail is sharp enough at `shown` pixels. */
export function sideFor(thumbnail: { readonly width: number; readonly height: number }, shown: number): number | null {
  const { width, height } = thumbnail;
  const scale = shown / Math.min(width, height);
  if (!Number.isFinite(scale) || scale <= 1.1) return null;
  return Math.min(MOST, STEP * Math.ceil((scale * Math.max(width, height)) / STEP));
}

export class Sharpener {
  private readonly without = new Set<string | null>();
  private readonly having = new Set<string | null>();
  private readonly waiting: (() => Promise<void>)[] = [];
  private busy = false;

  constructor(private readonly api: Pick<Api, "chipUrl" | "image">) {}

  /** Fetch an image; null when it is not there or not wanted any more. Urgent ones come first. */
  ask(id: string, archive: string | null, side: number, signal: AbortSignal, urgent = false): Promise<Blob | null> {
    return new Promise((done) => {
      const mine = async () => done(await this.fetch(id, archive, side, signal));
      if (urgent) this.waiting.unshift(mine);
      else this.waiting.push(mine);
      void this.work();
    });
  }

  private async work(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    for (let next = this.waiting.shift(); next; next = this.waiting.shift()) await next();
    this.busy = false;
  }

  private async fetch(id: string, archive: string | null, side: number, signal: AbortSignal): Promise<Blob | null> {
    if (signal.aborted || this.without.has(archive)) return null;
    // The first request of an archive is not given up: it shows whether there are sources at all.
    const stop = this.having.has(archive) ? signal : undefined;
    try {
      const image = await this.api.image(this.api.chipUrl(id, archive, side), stop);
      this.having.add(archive);
      return signal.aborted ? null : image;
    } catch (error) {
      if (!(error instanceof ApiError)) return null;
      if (error.status === 404) this.without.add(archive);
      // A busy server is left alone for as long as it says.
      if (error.retryAfter) await new Promise((done) => setTimeout(done, 1000 * (error.retryAfter ?? 0)));
      return null;
    }
  }
}

/** Left, top, right and bottom as shares of an image. */
export type Part = readonly [number, number, number, number];

/** Where a part of an image lies in its element, which may cut off two sides of the image. */
export function placed([left, top, right, bottom]: Part, image: Pick<HTMLImageElement, "naturalWidth" | "naturalHeight" | "clientWidth" | "clientHeight">) {
  const across = image.naturalWidth / (image.clientWidth || 1);
  const down = image.naturalHeight / (image.clientHeight || 1);
  const least = Math.min(across, down) || 1;
  const inside = (share: number, all: number) => `${Math.min(100, Math.max(0, 100 * (0.5 + (share - 0.5) * (all / least))))}%`;
  return {
    left: inside(left, across),
    top: inside(top, down),
    right: inside(1 - right, across),
    bottom: inside(1 - bottom, down),
  };
}
