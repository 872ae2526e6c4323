import { useEffect, useRef } from "preact/hooks";
import { Icon, type IconName } from "../icons";
import { MOST_HITS, type View } from "../state";
import { about, dialog, facets, found, go, phase, searchError, announcement, state } from "../store";
import { Beside, BesideChoice } from "./Beside";
import { ChangeBar } from "./ChangeBar";
import { ErrorState, QueryImageNeeded, Trouble } from "./ErrorState";
import { ExportMenu } from "./ExportMenu";
import { FilterChips } from "./FilterChips";
import { Grid } from "./Grid";
import { ModeSwitch } from "./ModeSwitch";
import { copyLink } from "./act";
import { hasExample, isSearch } from "./request";
import { more, search } from "./run";
import { titleOf } from "./remember";
import { ask } from "../store";
import { watches } from "./watches";
import { count, sentence } from "./why";

const SIZES = [12, 24, 48, 96, 192];

/** The results: what they are of, how they were ranked, and every state they can be in. */
export function Results() {
  const now = phase.value;
  const suggested = found.value?.mode === "suggest";
  const fit = found.value?.plan.allowed;
  const allowed = fit === undefined ? "Records" : fit === 1 ? "1 record" : `${count(fit)} records`;
  return (
    <section class="results" aria-label="Search results" aria-busy={now === "loading" || now === "more"}>
      <header class="results-head">
        <div class="results-title">
          <h1 class="clip" title={titleOf(state.value)}>
            {suggested ? "To label next: " : hasExample(state.value) ? "Look-alikes of " : isSearch(state.value) ? `${allowed}: ` : allowed}
            {isSearch(state.value) && <span class="faint">{titleOf(state.value)}</span>}
          </h1>
          <Tools />
        </div>
        {suggested ? <Suggested /> : <ModeSwitch />}
        <FilterChips />
        <ChangeBar />
      </header>
      <Body />
      <p class="hidden" role="status" aria-live="polite">
        {announcement.value}
      </p>
    </section>
  );
}

/** What suggestions are, and the way back. */
function Suggested() {
  return (
    <p class="row small" role="note">
      Results whose relevance is uncertain given the marks so far, and which differ from each other; the numbers are estimated relevance. Mark them good or bad, then choose Suggest or Refine.
      <button type="button" class="tool" onClick={() => void search()}>
        Back to results
      </button>
    </p>
  );
}

function Tools() {
  const { k } = state.value;
  return (
    <div class="row tools">
      <label class="inline">
        <span class="hidden">Results per page</span>
        <select value={String(k)} aria-label="Results per page" onChange={(event) => ask({ k: Number(event.currentTarget.value) })}>
          {[...new Set([...SIZES, k])].sort((a, b) => a - b).map((size) => (
            <option key={size} value={String(size)}>
              {`${size} results`}
            </option>
          ))}
        </select>
      </label>
      {facets.value?.bbox && <ViewSwitch />}
      <button type="button" class="tool" title="Copy a link to this search" aria-label="Copy a link to this search" onClick={() => void copyLink()}>
        <Icon name="link" />
      </button>
      {hasExample(state.value) && <BesideChoice />}
      {watches.value && isSearch(state.value) && (
        <button type="button" class="tool" title="Save this search and be told of new records  w" aria-label="Save this search" onClick={() => (dialog.value = "watches")}>
          <Icon name="bell" />
        </button>
      )}
      {found.value?.mode !== "suggest" && <ExportMenu />}
    </div>
  );
}

const VIEWS: readonly (readonly [View, IconName, string])[] = [
  ["grid", "grid", "Grid"],
  ["both", "both", "Grid and map"],
  ["map", "map", "Map"],
];

function ViewSwitch() {
  return (
    <div class="switch" role="group" aria-label="View">
      {VIEWS.map(([view, icon, name]) => (
        <button key={view} type="button" aria-label={name} title={`${name}  m`} aria-pressed={state.value.view === view} onClick={() => go({ view }, true)}>
          <Icon name={icon} />
        </button>
      ))}
    </div>
  );
}

function Body() {
  const now = phase.value;
  const answer = found.value;
  if (now === "query-image-needed") return <QueryImageNeeded />;
  if (now === "failed" && searchError.value) return <ErrorState error={searchError.value} onRetry={() => void search()} />;
  if (!answer) return <Waiting />;
  if (!answer.hits.length)
    return (
      <Trouble title="No results">
        <p>{answer.note ? sentence(answer.note) : "No record matches."}</p>
        <p class="small">Remove a filter or choose another label.</p>
      </Trouble>
    );
  return (
    <div class={now === "loading" ? "stale" : undefined}>
      {answer.remark && (
        <p class="remark" role="note">
          {sentence(answer.remark)}
        </p>
      )}
      {state.value.view !== "map" && state.value.beside ? (
        <div class="side-by-side">
          <section aria-label={`Results in ${about.value?.name ?? ""}`}>
            <h2 class="clip">{about.value?.name}</h2>
            <Grid />
          </section>
          <Beside key={state.value.beside} />
        </div>
      ) : (
        state.value.view !== "map" && <Grid />
      )}
      {answer.cursor && state.value.view !== "map" && <More shown={answer.hits.length} />}
    </div>
  );
}

/** Fetches further results when it is scrolled to, and by its button. */
function More({ shown }: { shown: number }) {
  const own = useRef<HTMLDivElement>(null);
  const now = phase.value;
  const plan = found.value?.plan;
  const full = shown >= MOST_HITS;
  useEffect(() => {
    if (!own.current || full) return;
    const watch = new IntersectionObserver(([seen]) => seen?.isIntersecting && scrollY > 0 && void more());
    watch.observe(own.current);
    return () => watch.disconnect();
  }, [shown, full]);
  return (
    <div class="row more" ref={own}>
      {!full && (
        <button type="button" class="tool" disabled={now !== "done"} onClick={() => void more()}>
          {now === "more" ? "Loading …" : "Show more"}
        </button>
      )}
      <span class="small faint">
        {`${count(shown)} of ${count(plan?.allowed ?? shown)}`}
        {full && ". The page shows at most 1,000 results; an export holds all."}
      </span>
    </div>
  );
}

/** Placeholders while results load. */
function Waiting() {
  const places = Math.min(state.value.k, 24);
  return (
    <ul class="grid waiting" aria-hidden="true">
      {Array.from({ length: places }, (_, at) => (
        <li key={at} class="card">
          <span class="no-image" />
        </li>
      ))}
    </ul>
  );
}

/** Shown in place of everything when the archive holds nothing. */
export function EmptyArchive() {
  return (
    <Trouble title="This archive is empty" level={1}>
      <p>Index some images, then restart the service:</p>
      <p>
        <code>{`landcue index FOLDER ${about.value?.name ?? "ARCHIVE"}`}</code>
      </p>
    </Trouble>
  );
}
