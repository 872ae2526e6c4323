import { useEffect, useRef, useState } from "preact/hooks";
import HeatOverlay from "../heat/HeatOverlay";
import { Icon } from "../icons";
import { lazy } from "../lazy";
import { useBlobUrl } from "../Remote";
import type { TimelineProps } from "../change/props";
import { Sharp } from "../Sharp";
import { about, api, archiveName, draft, found, picture, shownHits, shownMode, state } from "../store";
import type { Hit, RecordAnswer } from "../types";
import { copyLink, focusGrid, markHit, openHit } from "./act";
import { Facts } from "./Facts";
import { markOf } from "./marks";
import { askRecord, imageOf } from "./run";
import { nearness, shortId } from "./why";
import { Reasons } from "./Reasons";

const Timeline = lazy<TimelineProps>(() => import("../change/Timeline"), "the dates");

/** A hit beside the query: both images, why it was found, and what is known of it. */
export function Detail({ hit, at }: { hit: Hit; at: number }) {
  const record = useRecord(hit.id);
  const { query } = state.value;
  const [heat, setHeat] = useState(false);
  const [dates, setDates] = useState(false);
  const [image, setImage] = useState<Blob | null>(null);
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => title.current?.focus({ preventScroll: true }), []);
  useEffect(() => {
    let wanted = true;
    void imageOf(state.value).then((blob) => wanted && setImage(blob ?? null));
    return () => {
      wanted = false;
    };
  }, [query, picture.value]);
  const hits = shownHits.value;
  const mark = markOf(draft.value, hit.id);
  const archive = archiveName.value;
  const queryImage = query.kind === "record" ? { id: query.id } : image ? { image } : null;
  const close = () => {
    openHit(null);
    focusGrid();
  };
  const step = (by: number) => openHit(hits[at + by]?.id ?? hit.id);
  return (
    <aside class="detail" aria-label="Result details" onKeyDown={(event) => event.key === "Escape" && close()}>
      <header class="detail-head">
        <h2 ref={title} tabIndex={-1}>
          <span class="mono faint">{at + 1}</span>{" "}
          <span class="clip" title={hit.id}>
            {shortId(hit.id)}
          </span>
        </h2>
        <button type="button" class="quiet" aria-label="Copy a link to this result" title="Copy a link to this result" onClick={() => void copyLink()}>
          <Icon name="link" />
        </button>
        <button type="button" class="quiet" aria-label="Previous result" disabled={at === 0} onClick={() => step(-1)}>
          <Icon name="left" />
        </button>
        <button type="button" class="quiet" aria-label="Next result" disabled={at >= hits.length - 1} onClick={() => step(1)}>
          <Icon name="right" />
        </button>
        <button type="button" class="quiet" aria-label="Close details" onClick={close}>
          <Icon name="close" />
        </button>
      </header>
      <div class={queryImage ? "compare" : "compare alone"}>
        {queryImage && (
          <figure>
            <div class="frame">
              {"id" in queryImage ? (
                <Sharp id={queryImage.id} archive={archive} alt={`Query: ${queryImage.id}`} eager />
              ) : (
                <BlobImage blob={queryImage.image} />
              )}
              {heat && <HeatOverlay api={api} archive={archive} query={queryImage} id={hit.id} side="query" />}
            </div>
            <figcaption>Query</figcaption>
          </figure>
        )}
        <figure>
          <div class="frame">
            <Sharp id={hit.id} archive={archive} alt={hit.id} eager box={hit.region?.box} />
            {heat && queryImage && <HeatOverlay api={api} archive={archive} query={queryImage} id={hit.id} side="hit" />}
          </div>
          <figcaption>{nearness(hit, shownMode.value, about.value?.n_bits ?? 0) || "Result"}</figcaption>
        </figure>
      </div>
      {about.value?.regions && queryImage && (
        <div class="row">
          <button type="button" class="tool" aria-pressed={heat} onClick={() => setHeat(!heat)}>
            Similar regions
          </button>
          {heat && <span class="small faint hint">How much each region adds to the similarity; indicative only.</span>}
        </div>
      )}
      <div class="row actions">
        <button type="button" class="tool" aria-pressed={mark === "good"} onClick={() => markHit(hit.id, "good")}>
          <Icon name="plus" /> Good
        </button>
        <button type="button" class="tool" aria-pressed={mark === "bad"} onClick={() => markHit(hit.id, "bad")}>
          <Icon name="minus" /> Bad
        </button>
        <button type="button" class="tool" onClick={() => askRecord(hit.id)}>
          <Icon name="search" /> Search with this
        </button>
      </div>
      {hit.bbox && hit.datetime && (
        <div class="row">
          <button type="button" class="tool" aria-pressed={dates} onClick={() => setDates(!dates)}>
            Dates of this place
          </button>
        </div>
      )}
      {dates && hit.bbox && hit.datetime && <Timeline api={api} id={hit.id} archive={archive || null} />}
      {queryImage && (
        <Reasons
          hit={hit}
          mode={shownMode.value}
          hitPredicted={hit.predicted ?? record?.predicted_labels ?? null}
          queryPredicted={found.value?.predicted ?? null}
        />
      )}
      <Facts hit={hit} mode={shownMode.value} record={record} />
    </aside>
  );
}

function BlobImage({ blob }: { blob: Blob }) {
  const url = useBlobUrl(blob);
  return url ? <img src={url} alt="Query: your image" /> : <span class="no-image" />;
}

/** What is known of a record; null while it is not known yet. */
function useRecord(id: string | null): RecordAnswer | null {
  const [record, setRecord] = useState<RecordAnswer | null>(null);
  useEffect(() => {
    setRecord(null);
    if (id === null) return;
    const stop = new AbortController();
    api.record(id, archiveName.value || null, stop.signal).then(setRecord, () => undefined);
    return () => stop.abort();
  }, [id]);
  return record;
}
