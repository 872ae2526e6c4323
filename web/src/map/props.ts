import type { Box } from "../names";
import type { Hit, PlacesAnswer } from "../types";
import type { Rings } from "./polygon";

/** Returns all records of the search within a view; null where there is no search. */
export type Survey = (box: Box, zoom: number, label: string | null, signal: AbortSignal) => Promise<PlacesAnswer | null>;

/** What the page hands to the map of results. */
export interface MapProps {
  /** How the hits were found: the unit of their distances; in a list ranks mean nothing. */
  mode: string;
  /** Hits in rank order; those without geometry have no place. */
  hits: readonly Hit[];
  survey: Survey;
  /** Changes with the search. */
  searchKey: string;
  /** Whether all records that pass are shown at first, not the hits alone. */
  everything: boolean;
  /** Bounds of the archive. */
  extent: Box | null;
  /** Names of labels that colors can show. */
  labels: readonly string[];
  /** Id of the hit that is open or focused in the grid. */
  selected: string | null;
  /** A footprint was clicked; null clears the selection. */
  onSelect: (id: string | null) => void;
  /** Search with a record that is no hit of this page. */
  onQuery: (id: string) => void;
  /** The box that filters, if there is one. */
  box: Box | null;
  /** A box was drawn, or cleared. */
  onBox: (box: Box | null) => void;
  polygon: Rings | null;
  onPolygon: (polygon: Rings | null) => void;
  /** URL template of raster tiles, or null: the map then draws without any. */
  basemap: string | null;
  /** Ids marked as good and bad. */
  positives: readonly string[];
  negatives: readonly string[];
  dark: boolean;
}
