/** Convert a comparison to a request, and find the field that a message of the server belongs to. */

import { dayBefore, filtersOf, nextDay } from "../search/request";
import { NO_FILTERS, type Comparison, type FilterState } from "../state";
import type { ChangeRequest } from "../types";

type Side = "before" | "after";
export type Field = Side | "had" | "has" | "by" | "other";

/**
 * Write a range of days as the API takes it: a single date is exclusive before and inclusive after. Where the end
 * towards the other range is open, it is that range's.
 */
function datesOf({ before, after }: Comparison): Partial<Pick<ChangeRequest, Side>> {
  const until = before[1] ?? (before[0] && after[0] && dayBefore(after[0]));
  const from = after[0] ?? (after[1] && before[1] && nextDay(before[1]));
  const out: Partial<Pick<ChangeRequest, Side>> = {};
  if (until) out.before = before[0] ? `${before[0]}/${until}` : nextDay(until);
  if (from) out.after = after[1] ? `${from}/${after[1]}` : from;
  return out;
}

/** Return the request of a comparison; of the search's filters, those of place count. */
export function changeRequestOf(given: Comparison, filters: FilterState, archive: string | null, k: number): ChangeRequest {
  const { box, polygon } = filters;
  const place = filtersOf({ ...NO_FILTERS, box, polygon });
  // The server names the date that is missing.
  const out: Partial<ChangeRequest> = { ...datesOf(given), alpha: given.alpha, k };
  if (archive) out.archive = archive;
  if (given.other) out.other = given.other;
  if (Object.keys(place).length) out.filters = place;
  if (given.had) out.labels_before = given.had;
  if (given.has) out.labels_after = given.has;
  if (given.gained.length) out.gained = [...given.gained];
  if (given.lost.length) out.lost = [...given.lost];
  if (given.by) out.by = given.by;
  return out as ChangeRequest;
}

/** Return the field that a message is about; null for the whole comparison. */
export function fieldOf(message: string, { had, has }: Comparison): Field | null {
  const date = /^(?:no record has a time that fits )?(before|after)\b/i.exec(message);
  if (date) return date[1]?.toLowerCase() as Side;
  if (/archive is called|different models/.test(message)) return "other";
  if (/^the model has no scores for label/i.test(message)) return "by";
  if (!/label/i.test(message)) return null;
  const names = (text: string) => text !== "" && message.includes(text);
  return names(has) && !names(had) ? "has" : names(had) ? "had" : null;
}
