/** What the service tells of a model. */

export type Plain = string | number | boolean;

export interface ModelAnswer {
  archive: string;
  fingerprint: string;
  settings: Record<string, Plain>;
  training: Record<string, Plain>;
  training_images: number | null;
  training_labels: Record<string, number>;
  validation: Record<string, number>;
  test: { about: string; spaces: Record<string, Record<string, number>> } | null;
  regions: boolean;
}

export interface LabelScore {
  mAP: number | null;
  chance: number | null;
  n_query: number;
  n_gallery: number;
  third: "rare" | "medium" | "frequent" | null;
}

export interface SpaceScores {
  protocol: string;
  protocol_fingerprint: string;
  rules: string[];
  counts: Record<string, number>;
  metrics: Record<string, number | null>;
  chance: Record<string, number | null>;
  intervals: Record<string, [number | null, number | null]>;
  per_label: Record<string, LabelScore>;
  macro: Record<string, number | null>;
  definitions: Record<string, string>;
}

export interface OwnScores {
  archive: string;
  part: "test" | "all";
  annotated: number;
  taken: number;
  about: string;
  spaces: Record<string, SpaceScores>;
}

export interface EmbeddingMap {
  archive: string;
  records: number;
  shares: [number, number];
  colored_by: string;
  kinds: string[];
  ids: string[];
  x: number[];
  y: number[];
  kind: number[];
}
