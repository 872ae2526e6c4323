/** Images to ask with: kept in this browser below a key, cropped here, sent to the server only to search. */

import type { Size } from "./search/crop";
import type { Crop } from "./state";

export interface Picture {
  readonly key: string;
  readonly blob: Blob;
  readonly name: string;
  /** Null where the browser cannot show it, such as TIFF: it is then searched whole. */
  readonly size: Size | null;
}

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
export async function pictureOf(file: Blob, name: string): Promise<Picture> {
  let blob = file;
  const size = await sizeOf(blob);
  const tiff = /^image\/tiff?$/.test(blob.type) || /\.tiff?$/i.test(name);
  if (!size && !tiff) throw new Error(`${name} can't be read as an image. Use JPEG, PNG, TIFF or WebP.`);
  if (size && !READ.includes(blob.type)) blob = await cutPng(blob, { col: 0, row: 0, ...size });
  const key = hashBytes(new Uint8Array(await blob.arrayBuffer()));
  return { key, blob, name, size };
}

/** Return a region of an image as PNG. */
export async function cutPng(blob: Blob, crop: Crop): Promise<Blob> {
  const bitmap = await createImageBitmap(blob, crop.col, crop.row, crop.width, crop.height);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [crop.width, crop.height];
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Promise((done, failed) =>
    canvas.toBlob((made) => (made ? done(made) : failed(new Error("The region could not be cropped."))), "image/png"),
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
