/** Short names for parts of the REST API's types, which types.ts has as they are described. */

import type { SearchRequest } from "./types";

/** West, south, east, north in degrees; west > east crosses the antimeridian. */
export type Box = readonly [number, number, number, number];

export type Mode = NonNullable<SearchRequest["mode"]>;
export const MODES = ["auto", "embedding", "code", "cue", "two-stage", "ann", "fused", "fused-code", "regions"] as const satisfies readonly Mode[];

export type ExportFormat = "geojson" | "csv" | "geoparquet";

export type Plain = string | number | boolean;
