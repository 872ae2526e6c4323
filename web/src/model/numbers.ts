/** Scores in order and in words. */

import type { Plain } from "../names";
import type { LabelScore, ModelAnswer, SpaceScores } from "../types";

export type Order = "score" | "frequency";

export interface Bar extends LabelScore {
  readonly name: string;
}

/** Metrics that a reader looks for first; the others follow on demand. */
export const MAIN_METRICS = ["mAP", "mAP@20", "nDCG@10", "nDCG@100", "WAP@100", "P@10", "R-precision"];

/** Names of the searched spaces. */
export const SPACES: Record<string, string> = {
  embedding: "Float embedding",
  features: "Backbone features",
  code: "Hash code",
  chance: "Chance",
};

export function formatNumber(value: number | null | undefined, digits = 3): string {
  return value === null || value === undefined || !Number.isFinite(value) ? "–" : value.toFixed(digits);
}

export function sayInterval(pair: readonly [number | null, number | null] | undefined, digits = 3): string {
  if (!pair || pair[0] === null || pair[1] === null) return "–";
  return `${pair[0].toFixed(digits)} to ${pair[1].toFixed(digits)}`;
}

/**
 * Return labels as bars: best first, or rarest first. Labels without a score come last; equal ones
 * by name.
 */
export function barsOf(labels: Readonly<Record<string, LabelScore>>, order: Order): Bar[] {
  const bars = Object.entries(labels).map(([name, score]): Bar => ({ name, ...score }));
  const byName = (a: Bar, b: Bar) => (a.name < b.name ? -1 : 1);
  if (order === "frequency") return bars.sort((a, b) => a.n_gallery - b.n_gallery || byName(a, b));
  return bars.sort((a, b) => {
    if (a.mAP === null || b.mAP === null) return Number(a.mAP === null) - Number(b.mAP === null) || byName(a, b);
    return b.mAP - a.mAP || byName(a, b);
  });
}

/** Return the metrics of a space, the main ones first; `more` tells whether all are wanted. */
export function metricsOf(space: SpaceScores, more: boolean): string[] {
  const known = Object.keys(space.metrics);
  const main = MAIN_METRICS.filter((name) => known.includes(name));
  return more ? [...main, ...known.filter((name) => !main.includes(name))] : main;
}

/** Whether a metric is in 0..1 and can be drawn as a share. */
export function isShare(name: string, values: readonly (number | null | undefined)[]): boolean {
  return !/^(WAP|ACG)/.test(name) && values.every((value) => value == null || (value >= 0 && value <= 1));
}

/** Return spaces and metrics of the card's own test as a table. */
export function testTable(test: NonNullable<ModelAnswer["test"]>): { metrics: string[]; rows: [string, (number | undefined)[]][] } {
  const metrics = [...new Set(Object.values(test.spaces).flatMap((values) => Object.keys(values)))];
  const rows = Object.entries(test.spaces).map(([space, values]): [string, (number | undefined)[]] => [
    SPACES[space] ?? space,
    metrics.map((metric) => values[metric]),
  ]);
  return { metrics, rows };
}

const WORDS: Record<string, string> = {
  backbone: "Backbone",
  pooling: "Pooling",
  retrieval: "Searched space",
  projection: "Projection",
  dim: "Dimensions",
  n_bits: "Bits of a code",
  image_size: "Image side in pixels",
  in_chans: "Bands",
  channel_order: "Channel order",
  exclusive_labels: "One label per image",
  precision: "Precision",
  dataset: "Data set",
  split: "Split",
  seed: "Seed",
  loss: "Loss",
  made_by: "Made by",
  initial_weights: "Started from",
  epochs: "Epochs",
  best_epoch: "Best epoch",
  n_train: "Training images",
};

/** Return facts with their names in words. */
export function factsIn(values: Readonly<Record<string, Plain>>): [string, string][] {
  return Object.entries(values).map(([name, value]) => [
    WORDS[name] ?? name,
    typeof value === "boolean" ? (value ? "yes" : "no") : typeof value === "number" ? value.toLocaleString("en") : value,
  ]);
}
