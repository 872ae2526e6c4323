import type { Api } from "../api";

/** Properties of the overlay of similar regions on a square image. */
export interface HeatProps {
  api: Api;
  archive: string;
  /** The query: a record's id, or the pixels that were uploaded. */
  query: { id: string } | { image: Blob };
  /** The hit whose regions are compared with it. */
  id: string;
  /** Which of the two images this overlay covers. */
  side: "query" | "hit";
}
