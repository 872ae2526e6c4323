/** Searches made before, newest first: where they lead and what they are called. */

export interface Visit {
  /** The query string, which is the whole search. */
  readonly url: string;
  readonly title: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** A record whose thumbnail represents it, with its archive. */
  readonly thumb: string | null;
  readonly archive: string | null;
}

export const MOST_VISITS = 40;

/** Put a visit first; the same search is listed once. */
export function visited(past: readonly Visit[], visit: Visit): Visit[] {
  return [visit, ...past.filter((known) => known.url !== visit.url)].slice(0, MOST_VISITS);
}

/** Read what {@link writePast} wrote; what is broken is left out. */
export function readPast(text: string | null): Visit[] {
  let found: unknown;
  try {
    found = JSON.parse(text ?? "[]");
  } catch {
    return [];
  }
  return Array.isArray(found) ? found.filter(isVisit).slice(0, MOST_VISITS) : [];
}

export function writePast(past: readonly Visit[]): string {
  return JSON.stringify(past);
}

function isVisit(value: unknown): value is Visit {
  if (typeof value !== "object" || value === null) return false;
  const one = value as Record<string, unknown>;
  const text = (key: string) => one[key] === null || typeof one[key] === "string";
  return (
    // A search of this page and nothing that leads elsewhere.
    typeof one["url"] === "string" &&
    (one["url"] === "" || one["url"].startsWith("?")) &&
    typeof one["title"] === "string" &&
    Number.isFinite(one["at"]) &&
    text("thumb") &&
    text("archive")
  );
}
