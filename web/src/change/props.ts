import type { Api } from "../api";

export interface TimelineProps {
  api: Api;
  id: string;
  archive: string | null;
}
