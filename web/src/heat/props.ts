import type { Api } from "../api";

/** What the page hands to the overlay of similar regions, which lies over a square image. */
export interface HeatProps {
  api: Api;
  archive: string;
  /** The query: a record's id, or the pixels that were uploaded. */
  query: { id: string } | { image: Blob };
  /** The hit whose regions are compared with it. */
  id: string;
  /** On which of the two images this overlay lies. */
  side: "query" | "hit";
}
