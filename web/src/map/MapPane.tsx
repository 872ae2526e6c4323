import type { MapProps } from "./props";

/** The map of results. */
export default function MapPane(_: MapProps) {
  return null;
}
