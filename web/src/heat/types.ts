/** Values by location: rows from the top, columns from the left, over the whole image. */
export interface RegionGrid {
  /** What each location adds to the similarity. */
  parts: number[][];
  /** Cosine of each location by itself. */
  cosines: number[][];
}

export interface RegionsAnswer {
  archive: string;
  id: string;
  /** Cosine of record and query, -1..1. */
  similarity: number;
  record: RegionGrid;
  /** The same for the query, where it is one image. */
  query: RegionGrid | null;
}
