import { useEffect, useState } from "preact/hooks";
import { Sharp } from "../Sharp";
import { about, api, go, shownHits, state } from "../store";
import type { SearchAnswer } from "../types";
import { requestOf, searchKey } from "./request";
import { imageOf } from "./run";
import { nearness, shortId } from "./why";

/** Chooses a second archive of the service, whose model answers the same query. */
export function BesideChoice() {
  const archives = (about.value?.archives ?? []).filter((name) => name !== about.value?.name);
  if (!archives.length) return null;
  return (
    <label class="inline">
      <span class="hidden">Compare with the archive</span>
      <select
        aria-label="Compare with the archive"
        value={state.value.beside ?? ""}
        onChange={(event) => go({ beside: event.currentTarget.value || null }, true)}
      >
        <option value="">Compare with …</option>
        {archives.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

type Loaded = { readonly answer: SearchAnswer } | { readonly problem: string } | null;

/** The results of the same query in another archive, and which of them both have. */
export function Beside() {
  const { beside } = state.value;
  const [found, setFound] = useState<Loaded>(null);
  // Scores of two models are not comparable: the minimum score is for the first one alone.
  const asked = { ...state.value, archive: beside, least: null, pages: 1 };
  const key = searchKey(asked);
  useEffect(() => {
    setFound(null);
    if (!beside) return;
    const mine = new AbortController();
    void (async () => {
      try {
        const image = await imageOf(state.value);
        if (image === undefined) return;
        const answer = await api.search(requestOf(asked), image, mine.signal);
        if (!mine.signal.aborted) setFound({ answer });
      } catch (error) {
        if (!mine.signal.aborted) setFound({ problem: error instanceof Error ? error.message : "The search failed." });
      }
    })();
    return () => mine.abort();
  }, [key, beside]);
  if (!beside) return null;
  const ranks = new Map(shownHits.value.map((hit, at) => [hit.id, at + 1]));
  const hits = found && "answer" in found ? found.answer.hits : [];
  const both = hits.filter((hit) => ranks.has(hit.id)).length;
  return (
    <section class="beside" aria-label={`Results in ${beside}`}>
      <h2 class="clip" title={beside}>
        {beside}
      </h2>
      <p class="small faint" role="status">
        {!found
          ? "Searching …"
          : "problem" in found
            ? found.problem
            : `${both} of ${hits.length} are also among the results shown. Scores of two models cannot be compared.`}
      </p>
      <ul class="grid beside-grid">
        {hits.map((hit, at) => {
          const rank = ranks.get(hit.id);
          return (
            <li key={hit.id} class="card" data-both={rank !== undefined || undefined}>
              <span class="beside-image">
                <Sharp id={hit.id} archive={beside} alt={`${at + 1}: ${hit.id}`} />
              </span>
              <p class="small">
                <span class="mono faint">{at + 1}</span>{" "}
                <span class="mono" title={hit.id}>
                  {shortId(hit.id)}
                </span>{" "}
                {found && "answer" in found && nearness(hit, found.answer.mode, 0)}
              </p>
              <p class="small faint">{rank === undefined ? "not among the results shown" : `rank ${rank} in ${about.value?.name ?? ""}`}</p>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
