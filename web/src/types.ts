/** What the REST API takes and gives; the fields are those of /openapi.json. */

/** West, south, east, north in degrees; west > east crosses the antimeridian. */
export type Box = readonly [number, number, number, number];

export const MODES = ["auto", "embedding", "code", "cue", "two-stage", "ann"] as const;
export type Mode = (typeof MODES)[number];

export interface Filters {
  labels?: string;
  scores?: Record<string, number>;
  bbox?: Box;
  after?: string;
  before?: string;
  groups?: string[];
  sensors?: string[];
  parts?: string[];
}

export interface SearchRequest {
  archive?: string;
  id?: string;
  positives?: string[];
  negatives?: string[];
  filters?: Filters;
  mode?: Mode;
  k?: number;
  cursor?: string;
  predicted?: boolean;
}

export interface Hit {
  id: string;
  distance: number;
  score: number;
  labels: string[];
  shared: string[];
  bounds: [number, number, number, number] | null;
  /** A closed ring of [longitude, latitude]. */
  footprint: [number, number][] | null;
  window: number[] | null;
  time: string | null;
  sensor: string | null;
  group: string | null;
  near: number;
  /** Labels the model predicted, where asked for. */
  predicted?: string[];
}

export interface Plan {
  mode: string;
  why: string;
  records: number;
  allowed: number;
  scanned: number;
  reranked: number;
  recall: number | null;
  lists: number | null;
  milliseconds: number;
}

export interface SearchAnswer {
  archive: string;
  query: string;
  mode: string;
  hits: Hit[];
  labels: string[];
  cursor: string | null;
  note: string | null;
  plan: Plan;
}

export interface RecordAnswer {
  archive: string;
  id: string;
  labels: string[] | null;
  predicted_labels: string[];
  bounds: [number, number, number, number] | null;
  window: number[] | null;
  time: string | null;
  sensor: string | null;
  group: string | null;
  part: string | null;
}

export interface LabelCount {
  name: string;
  annotated: number;
  predicted: number;
  records: number;
}

export interface ArchiveAnswer {
  name: string;
  records: number;
  version: number;
  created: string;
  updated: string;
  /** Whether a newer version lies on the server's disk. */
  stale?: boolean;
  landcue: string;
  fingerprint: string;
  dim: number;
  n_bits: number;
  label_names: string[];
  metric: string;
  model: string | null;
  encodes_images: boolean;
  card: string | null;
  scores: Record<string, unknown>;
  archives: string[];
  /** Whether similar regions of a hit can be asked for. */
  regions: boolean;
  /** URL template of map tiles, where the operator set one. */
  basemap?: string | null;
  basemap_credit?: string | null;
}

export interface ValueCount {
  name: string;
  records: number;
}

export interface Facets {
  archive: string;
  /** Search modes that this archive answers. */
  modes: string[];
  groups: ValueCount[];
  sensors: ValueCount[];
  parts: ValueCount[];
  time: [string, string] | null;
  bounds: [number, number, number, number] | null;
  /** Some ids, spread evenly over all of them. */
  examples: string[];
}

export type ExportFormat = "geojson" | "csv" | "geoparquet";

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  errors?: { at: string; what: string }[];
}
