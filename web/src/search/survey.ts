/** What is asked of all records that pass a search, not only of the hits shown. */

import type { Box } from "../names";
import { api, state } from "../store";
import type { PlacesAnswer, ScoresAnswer, SearchRequest } from "../types";
import { requestOf } from "./request";
import { imageOf } from "./run";

/** The request of the current search for all its records; near-duplicates count one by one. */
function wholeRequest(): SearchRequest {
  const { collapse: _, ...request } = requestOf(state.value);
  return { ...request, k: 1, predicted: false };
}

/** Return the records within a box; null where the query image is missing. */
export async function surveyPlaces(box: Box, zoom: number, label: string | null, signal: AbortSignal): Promise<PlacesAnswer | null> {
  const image = await imageOf(state.value);
  return image === undefined ? null : api.places(wholeRequest(), image, { box, zoom, label }, signal);
}

/** Return how all scores are distributed, and how many reach the minimum score. */
export async function surveyScores(bins: number, signal?: AbortSignal): Promise<ScoresAnswer | null> {
  const image = await imageOf(state.value);
  return image === undefined ? null : api.scores(wholeRequest(), image, bins, signal);
}
