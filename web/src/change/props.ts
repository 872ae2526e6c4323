import type { Api } from "../api";

export interface TimelineProps {
  api: Api;
  id: string;
  archive: string | null;
  /** The date to compare it with; the last other one by default. */
  other?: string;
}
