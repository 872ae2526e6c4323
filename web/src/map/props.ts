import type { Box } from "../names";
import type { Hit } from "../types";

/** What the page hands to the map of results. */
export interface MapProps {
  /** How the hits were found: the unit of their distances; in a list ranks mean nothing. */
  mode: string;
  /** Hits in rank order; those without bounds and footprint have no place. */
  hits: readonly Hit[];
  /** Id of the hit that is open or focused in the grid. */
  selected: string | null;
  /** A footprint was clicked; null clears the selection. */
  onSelect: (id: string | null) => void;
  /** The box that filters, if there is one. */
  box: Box | null;
  /** A box was drawn, or cleared. */
  onBox: (box: Box | null) => void;
  /** URL template of raster tiles, or null: the map then draws without any. */
  basemap: string | null;
  /** Ids marked as good and bad. */
  positives: readonly string[];
  negatives: readonly string[];
  dark: boolean;
}
