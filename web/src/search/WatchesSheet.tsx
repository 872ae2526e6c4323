import { useEffect, useState } from "preact/hooks";
import { Icon } from "../icons";
import { Remote } from "../Remote";
import { Sheet } from "../Sheet";
import { about, api, archiveName, collection, dialog, notify, shownMode, state } from "../store";
import type { SearchRequest, Watch, WatchHit } from "../types";
import { createCollection, messageOf, showSearch } from "./collection";
import { titleOf } from "./remember";
import { hasExample, isSearch } from "./request";
import { askRecord } from "./run";
import { fresh, hitsOf, lookForHits, seeHits, watchedSearch, watches } from "./watches";
import { count, sentence, shortId } from "./why";

const close = () => (dialog.value = null);
const MOST_SHOWN = 200;

/** The saved searches of the archive with their hits, and a form that saves the current one. */
export default function WatchesSheet() {
  const [unseen] = useState(fresh.value);
  useEffect(() => {
    seeHits();
    void lookForHits();
  }, []);
  const known = watches.value ?? [];
  return (
    <Sheet title="Saved searches" onClose={close} side>
      {isSearch(state.value) ? (
        <SaveForm />
      ) : (
        !known.length && <p class="note">Search for something, then save the search here. New records that match it are reported when the archive is indexed.</p>
      )}
      <SavedSearches known={known} name="All saved searches" unseen={unseen} />
      {known.length > 0 && !api.hasToken && (
        <a class="link" href={api.feedUrl(archiveName.value)} target="_blank" rel="noreferrer">
          Atom feed of all new hits
        </a>
      )}
    </Sheet>
  );
}

interface SavedProps {
  /** Hits that are new, with the name of their saved search. */
  unseen: readonly WatchHit[];
}

/** Saved searches, each with its hits, its search and its feed. */
export function SavedSearches({ known, name, unseen }: SavedProps & { known: readonly Watch[]; name: string }) {
  const [failed, setFailed] = useState("");
  const remove = async (one: Watch) => {
    if (!confirm(`Delete the saved search “${one.name}” and its hits for everyone?`)) return;
    try {
      watches.value = (await api.removeWatch(one.name, archiveName.value)).watches;
    } catch (error) {
      setFailed(messageOf(error));
    }
  };
  return (
    <>
      {failed && (
        <p class="small wrong" role="alert">
          {failed}
        </p>
      )}
      {known.length > 0 && (
        <ul class="past" aria-label={name}>
          {known.map((one) => (
            <li key={one.name}>
              <Saved watch={one} unseen={unseen} onRemove={() => void remove(one)} />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function Saved({ watch, unseen, onRemove }: SavedProps & { watch: Watch; onRemove: () => void }) {
  const [hits, setHits] = useState<readonly WatchHit[] | string | null>(null);
  const news = unseen.filter((hit) => hit.watch === watch.name).length;
  const facts = [
    watch.query && watch.query !== watch.name ? watch.query : "",
    watch.min_score > -1 ? `cosine ≥ ${watch.min_score.toFixed(3)}` : "",
    `${count(watch.hits)} ${watch.hits === 1 ? "hit" : "hits"}`,
    watch.collection && watch.collection === collection.value?.id ? "in the open collection" : "",
  ];
  const toggle = () => {
    if (hits !== null) setHits(null);
    else if (!watch.hits) setHits("No new record matched so far.");
    else {
      setHits("Loading …");
      hitsOf(watch.name).then(setHits, (error: unknown) => setHits(messageOf(error)));
    }
  };
  return (
    <>
      <div class="watch">
        <button type="button" class="collection-open" aria-expanded={hits !== null} onClick={toggle}>
          <span class="past-title">
            {watch.name} {news > 0 && <span class="badge">{`${news} new`}</span>}
          </span>
          <span class="small faint">{facts.filter(Boolean).join(" · ")}</span>
        </button>
        <button type="button" class="quiet" aria-label={`Delete: ${watch.name}`} title="Delete" onClick={onRemove}>
          <Icon name="close" />
        </button>
      </div>
      {watch.problem && <p class="small wrong">{`${sentence(watch.problem)} Its hits are kept.`}</p>}
      {hits !== null && (
        <div class="row watch-tools">
          {watch.search && (
            <button
              type="button"
              class="tool"
              onClick={() => {
                close();
                showSearch(watch.search as SearchRequest);
              }}
            >
              <Icon name="search" /> Show this search
            </button>
          )}
          <Feed name={watch.name} />
        </div>
      )}
      {typeof hits === "string" && (
        <p class="small" role="status">
          {hits}
        </p>
      )}
      {typeof hits === "object" && hits && (
        <ul class="watch-hits" aria-label={`Hits of ${watch.name}`}>
          {hits.slice(0, MOST_SHOWN).map((hit) => (
            <li key={hit.number}>
              <button
                type="button"
                class="watch-hit"
                onClick={() => {
                  close();
                  askRecord(hit.id);
                }}
              >
                <Remote src={api.thumbnailUrl(hit.id, archiveName.value || null)} alt="" />
                <span>
                  <span class="clip" title={hit.id}>
                    {shortId(hit.id)}
                  </span>
                  <span class="small faint">
                    {[hit.score === null ? "" : `cosine ${hit.score.toFixed(3)}`, new Date(hit.time).toLocaleString()].filter(Boolean).join(" · ")}
                  </span>
                </span>
                {unseen.some((one) => one.number === hit.number) && <span class="badge">new</span>}
              </button>
            </li>
          ))}
        </ul>
      )}
      {typeof hits === "object" && hits && hits.length > MOST_SHOWN && <p class="small faint">{`The newest ${MOST_SHOWN} of ${count(hits.length)} hits are listed; the feed and the API have all.`}</p>}
    </>
  );
}

/** Creates an address for feed readers, which send no token. */
function Feed({ name }: { name: string }) {
  const [address, setAddress] = useState("");
  const create = async () => {
    try {
      const { path } = await api.newFeed(name, archiveName.value);
      setAddress(new URL(path, location.href).href);
    } catch (error) {
      notify(messageOf(error));
    }
  };
  if (!address)
    return (
      <button type="button" class="tool" title="An address for feed readers; the previous address of this search stops working" onClick={() => void create()}>
        <Icon name="link" /> New feed address
      </button>
    );
  return (
    <label class="filter feed">
      <span class="small faint">Whoever has this address can read the hits. It is shown only once, and stops working when a new one is created or the search is deleted.</span>
      <input type="text" class="mono" readOnly aria-label={`Feed address of ${name}`} value={address} onFocus={(event) => event.currentTarget.select()} />
    </label>
  );
}

/** Saves the current search with a threshold. */
function SaveForm() {
  const current = state.value;
  const example = hasExample(current);
  const cosine = current.least !== null && shownMode.value === "embedding" ? current.least : null;
  const [name, setName] = useState(collection.value?.name ?? titleOf(current).slice(0, 200));
  const [by, setBy] = useState<"percentile" | "cosine">(cosine === null ? "percentile" : "cosine");
  const [percentile, setPercentile] = useState("5");
  const [least, setLeast] = useState(String(cosine ?? 0.8));
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
  const [inside, setInside] = useState(true);
  const image = current.query.kind === "image";
  const ofLeast = /percentile|score/i.test(failed);
  const says = (here: boolean) => ({ "aria-invalid": failed !== "" && here, "aria-describedby": failed && here ? "watch-wrong" : undefined });
  const save = async () => {
    setBusy(true);
    setFailed("");
    try {
      // An uploaded image is kept on the server by a collection, which the search then names.
      if (image && !(await createCollection(undefined, name))) return;
      const owner = inside || image ? collection.value?.id : undefined;
      const search = watchedSearch(state.value);
      if (example && by === "cosine") search.min_score = Number(least);
      const answer = await api.saveWatch({ name: name.trim(), search, ...(owner ? { collection: owner } : {}), ...(example && by === "percentile" ? { percentile: Number(percentile) } : {}) });
      watches.value = answer.watches;
    } catch (error) {
      setFailed(messageOf(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <form
      class="watch-form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <div class="filter">
        <label for="watch-name">Save the current search as</label>
        <input
          id="watch-name"
          type="text"
          maxLength={200}
          {...says(!ofLeast)}
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
      </div>
      {example && (
        <div class="filter">
          <label for="watch-by">New records are reported</label>
          <div class="row watch-least">
            <select id="watch-by" value={by} onChange={(event) => setBy(event.currentTarget.value === "cosine" ? "cosine" : "percentile")}>
              <option value="percentile">closer than this % of neighbors</option>
              <option value="cosine">with a cosine of at least</option>
            </select>
            {by === "percentile" ? (
              <input type="text" class="mono" inputMode="decimal" aria-label="Percentage" {...says(ofLeast)} value={percentile} onInput={(event) => setPercentile(event.currentTarget.value)} />
            ) : (
              <input type="text" class="mono" inputMode="decimal" aria-label="Minimum cosine" {...says(ofLeast)} value={least} onInput={(event) => setLeast(event.currentTarget.value)} />
            )}
          </div>
          {by === "percentile" && <p class="small faint">A hit is closer than this percentage of the distances between records and their nearest neighbors: 5 is lenient, 95 strict.</p>}
        </div>
      )}
      {collection.value && !image && (
        <label class="check small">
          <input type="checkbox" checked={inside} onChange={(event) => setInside(event.currentTarget.checked)} />
          {`In the collection “${collection.value.name}”`}
        </label>
      )}
      {image && about.value?.collections && <p class="small faint">Your image is kept on the server with a collection of this name.</p>}
      {image && !about.value?.collections && <p class="small wrong">This service keeps no uploaded images. Search with a record of the archive instead.</p>}
      {failed && (
        <p class="small wrong" role="alert" id="watch-wrong">
          {failed}
        </p>
      )}
      <button type="submit" class="primary" disabled={busy || (image && !about.value?.collections)}>
        Save search
      </button>
    </form>
  );
}
