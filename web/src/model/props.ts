import type { Api } from "../api";
import type { ArchiveAnswer, LabelCount } from "../types";

/** What the page hands to the Model page. */
export interface ModelProps {
  api: Api;
  about: ArchiveAnswer;
  labels: readonly LabelCount[];
  dark: boolean;
  /** Search by this record. */
  onQuery: (id: string) => void;
  /** Save records as a collection. */
  onKeep: (ids: readonly string[]) => void;
}
