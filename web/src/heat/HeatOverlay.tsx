import type { HeatProps } from "./props";

/** Whether the overlay can be shown; the page offers its switch only then. */
export const heatAvailable = false;

/** Similar regions of a query and a hit. */
export default function HeatOverlay(_: HeatProps) {
  return null;
}
