/** Why a hit was found: which labels agree, and how near it is in words. */

import type { Box } from "../names";
import type { Hit } from "../types";

/** Say what a percentile means; "" where it was not measured. */
export function likeness(hit: Hit): string {
  const { percentile } = hit;
  if (percentile === null || percentile === undefined) return "";
  if (percentile < 1) return "farther than the archive's nearest neighbors";
  return `closer than ${Math.min(99, Math.floor(percentile))} % of nearest neighbors`;
}

/** "2 of 3 predicted query labels": those predicted for the query that are predicted for the hit; "" without any. */
export function sharedOf(bits: LabelBits): string {
  const total = bits.both.length + bits.query.length;
  if (!total) return "";
  return `${bits.both.length} of ${total} predicted query label${total === 1 ? "" : "s"}`;
}

/** Return a line of the server as a sentence; an id or a path at its start stays as it is. */
export function sentence(text: string): string {
  const first = /^[a-z]+(?=[ ,;:]|$)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

export interface LabelBits {
  /** Predicted for both, for the query alone, for the hit alone. */
  readonly both: readonly string[];
  readonly query: readonly string[];
  readonly hit: readonly string[];
  /** Of `total` label bits so many are equal, counting labels that neither has. */
  readonly agree: number;
  readonly total: number;
}

/** Compare predicted labels bit by bit, as the label cue does. */
export function labelBits(names: readonly string[], query: readonly string[], hit: readonly string[]): LabelBits {
  const known = names.length ? names : [...new Set([...query, ...hit])];
  const [q, h] = [new Set(query), new Set(hit)];
  const both = known.filter((name) => q.has(name) && h.has(name));
  const onlyQuery = known.filter((name) => q.has(name) && !h.has(name));
  const onlyHit = known.filter((name) => !q.has(name) && h.has(name));
  const agree = known.length - onlyQuery.length - onlyHit.length;
  return { both, query: onlyQuery, hit: onlyHit, agree, total: known.length };
}

/** Say how near a hit is, in the unit of the mode that found it. */
export function nearness(hit: Hit, mode: string, nBits: number): string {
  switch (mode) {
    case "list":
      return "";
    case "place":
      return kilometers(hit.distance);
    case "code":
      return `${hit.distance} of ${nBits} bits differ`;
    case "fused":
      return `score ${hit.score.toFixed(3)}`;
    case "suggest":
      return `estimated relevance ${hit.score.toFixed(2)}`;
    case "cue":
      return `cue distance ${hit.distance}`;
    default:
      return `cosine ${hit.score.toFixed(3)}`;
  }
}

/** The same in a few characters, for the corner of a card. */
export function shortNearness(hit: Hit, mode: string): string {
  if (mode === "list") return "";
  if (mode === "place") return kilometers(hit.distance);
  if (mode === "code") return hit.distance === 1 ? "1 bit" : `${hit.distance} bits`;
  return mode === "cue" ? `d ${hit.distance}` : hit.score.toFixed(3);
}

/** The middle of a box as longitude and latitude; west > east crosses the antimeridian. */
export function middleOf([west, south, east, north]: Box): [number, number] {
  const turned = west > east ? east + 360 : east;
  const longitude = (west + turned) / 2;
  return [longitude > 180 ? longitude - 360 : longitude, (south + north) / 2];
}

/** The last step of an id that is a path: what tells neighbors apart where room is scarce. */
export function shortId(id: string): string {
  return id.slice(id.lastIndexOf("/") + 1) || id;
}

/** Milliseconds with as many digits as they are worth. */
export function milliseconds(value: number): string {
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

function kilometers(value: number): string {
  if (value < 1) return `${Math.round(value * 1000)} m`;
  return value < 100 ? `${value.toFixed(1)} km` : `${count(Math.round(value))} km`;
}
