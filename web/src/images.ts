/** Images to ask with: kept in this browser below a key, cropped here, sent to the server only to search. */

import type { Size } from "./search/crop";
import type { Crop } from "./state";

export interface Picture {
  readonly key: string;
  readonly blob: Blob;
  readonly name: string;
  /** Null where it cannot be shown: it is then searched whole. */
  readonly size: Size | null;
  /** What was done to it before it is searched. */
  readonly note?: string;
  /** The raster that it was made of by the server, and how. */
  readonly raster?: Raster;
}

export interface Raster {
  readonly blob: Blob;
  /** Such as 4,3,2; empty for the archive's rule. */
  readonly bands: string;
  /** Such as percentile:2,98; empty for the archive's rule. */
  readonly scale: string;
}

/** What the server takes, and how it renders a raster that the browser cannot show. */
export interface Reader {
  readonly maxPixels: number;
  readonly maxBytes: number;
  render(raster: Raster): Promise<{ blob: Blob; width: number; height: number }>;
}

/** Longest side of an image that is scaled down: models look at far fewer pixels. */
const SCALED_SIDE = 4096;

/** Kinds that the server reads; others are converted here. */
const READ = ["image/jpeg", "image/png", "image/tiff", "image/webp"];
const MOST_KEPT = 24;

/** Return 64 bits of a hash as 16 hex digits: tells images apart, and is no secret. */
export function hashBytes(bytes: Uint8Array): string {
  let a = 0xdeadbeef ^ bytes.length;
  let b = 0x41c6ce57;
  for (const byte of bytes) {
    a = Math.imul(a ^ byte, 2654435761);
    b = Math.imul(b ^ byte, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  const hex = (value: number) => (value >>> 0).toString(16).padStart(8, "0");
  return hex(b) + hex(a);
}

/** Take a file as it was dropped, pasted or chosen. Throws where it is no image. */
export async function pictureOf(file: Blob, name: string, reader: Reader): Promise<Picture> {
  const size = await sizeOf(file);
  const tiff = /^image\/tiff?$/.test(file.type) || /\.tiff?$/i.test(name);
  if (!size && tiff) return rasterPicture({ blob: file, bands: "", scale: "" }, name, reader);
  if (!size) throw new Error(`${name} can't be read as an image. Use JPEG, PNG, TIFF or WebP.`);
  if (size.width * size.height > reader.maxPixels || file.size > reader.maxBytes) return scaledPicture(file, name, size);
  const blob = READ.includes(file.type) ? file : await cutPng(file, { col: 0, row: 0, ...size });
  return { key: await keyOf(blob), blob, name, size };
}

/** Have a raster rendered by the server; where that fails it is searched as it is, without a preview. */
export async function rasterPicture(raster: Raster, name: string, reader: Reader): Promise<Picture> {
  try {
    const { blob, width, height } = await reader.render(raster);
    const size = await sizeOf(blob);
    const reduced = size && size.width < width ? ` of ${width} × ${height}, scaled to ${size.width} × ${size.height} pixels` : "";
    return { key: await keyOf(blob), blob, name, size, raster, note: `Raster${reduced}, read by the server` };
  } catch (error) {
    const note = error instanceof Error ? error.message : "The server cannot show it.";
    return { key: await keyOf(raster.blob), blob: raster.blob, name, size: null, raster, note };
  }
}

/** Scale an image down that is larger than the server takes. */
async function scaledPicture(file: Blob, name: string, { width, height }: Size): Promise<Picture> {
  const share = Math.min(1, SCALED_SIDE / Math.max(width, height));
  const size = { width: Math.max(1, Math.round(width * share)), height: Math.max(1, Math.round(height * share)) };
  const bitmap = await createImageBitmap(file, { resizeWidth: size.width, resizeHeight: size.height, resizeQuality: "high" });
  const blob = await drawn(bitmap, size, "image/jpeg");
  const note = `Scaled from ${width} × ${height} to ${size.width} × ${size.height} pixels: the server takes no larger images`;
  return { key: await keyOf(blob), blob, name, size, note };
}

async function keyOf(blob: Blob): Promise<string> {
  return hashBytes(new Uint8Array(await blob.arrayBuffer()));
}

/** Return a region of an image as PNG. */
export async function cutPng(blob: Blob, crop: Crop): Promise<Blob> {
  return drawn(await createImageBitmap(blob, crop.col, crop.row, crop.width, crop.height), crop, "image/png");
}

function drawn(bitmap: ImageBitmap, { width, height }: Size, type: string): Promise<Blob> {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Promise((done, failed) =>
    canvas.toBlob((made) => (made ? done(made) : failed(new Error("The browser could not redraw the image."))), type, 0.95),
  );
}

/** Return what is sent to the server: the image, or its region. */
export function sentOf(picture: Picture, crop: Crop | null): Promise<Blob> {
  return crop && picture.size ? cutPng(picture.blob, crop) : Promise.resolve(picture.blob);
}

async function sizeOf(blob: Blob): Promise<Size | null> {
  try {
    const bitmap = await createImageBitmap(blob);
    const size = { width: bitmap.width, height: bitmap.height };
    bitmap.close();
    return size;
  } catch {
    return null;
  }
}

/** Pictures by key, in IndexedDB where there is one, else for as long as the page is open. */
export class PictureStore {
  private readonly recent = new Map<string, Picture>();
  private opened: Promise<IDBDatabase | null> | null = null;

  async keep(picture: Picture): Promise<void> {
    this.recent.set(picture.key, picture);
    const database = await this.database();
    try {
      const store = database?.transaction("pictures", "readwrite").objectStore("pictures");
      if (!store) return;
      store.put({ ...picture, at: Date.now() });
      const keys = await answer(store.index("at").getAllKeys());
      for (const old of (keys ?? []).slice(0, -MOST_KEPT)) store.delete(old);
    } catch {
      // Storage is full or closed: the picture lasts as long as the page.
    }
  }

  async find(key: string): Promise<Picture | null> {
    const known = this.recent.get(key);
    if (known) return known;
    const database = await this.database();
    if (!database) return null;
    const found = await answer(database.transaction("pictures").objectStore("pictures").get(key));
    if (found) this.recent.set(key, found as Picture);
    return (found as Picture | undefined) ?? null;
  }

  private database(): Promise<IDBDatabase | null> {
    this.opened ??= new Promise((done) => {
      try {
        const request = indexedDB.open("landcue", 1);
        request.onupgradeneeded = () =>
          request.result.createObjectStore("pictures", { keyPath: "key" }).createIndex("at", "at");
        request.onsuccess = () => done(request.result);
        request.onerror = request.onblocked = () => done(null);
      } catch {
        done(null);
      }
    });
    return this.opened;
  }
}

function answer<T>(request: IDBRequest<T>): Promise<T | null> {
  return new Promise((done) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => done(null);
  });
}
