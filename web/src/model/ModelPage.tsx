import type { ModelProps } from "./props";

/** The model of an archive: its card, protocol and scores. */
export default function ModelPage(_: ModelProps) {
  return null;
}
