import type { Api } from "../api";

export interface TimelineProps {
  api: Api;
  id: string;
  archive: string | null;
  /** The record to compare it with, of this or another archive; by default the last other one of its place. */
  other?: { readonly id: string; readonly archive: string };
}
