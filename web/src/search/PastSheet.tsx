import { useEffect, useState } from "preact/hooks";
import { Remote, useBlobUrl } from "../Remote";
import { Sheet } from "../Sheet";
import { fromQuery } from "../state";
import { api, dialog, go, pictures, state } from "../store";
import type { Visit } from "./past";
import { clearHistory, past } from "./remember";
import { count } from "./why";

/** Searches made before in this browser. */
export function PastSheet() {
  const close = () => (dialog.value = null);
  const visits = past.value;
  return (
    <Sheet title="History" onClose={close} side>
      {!visits.length && <p class="note">Your searches are listed here. They are stored in this browser only.</p>}
      <ol class="past">
        {visits.map((visit) => (
          <li key={visit.url}>
            <a
              href={`./${visit.url}`}
              onClick={(event) => {
                if (event.ctrlKey || event.metaKey || event.shiftKey) return;
                event.preventDefault();
                go({ ...fromQuery(visit.url), view: state.value.view });
                close();
              }}
            >
              <Thumb visit={visit} />
              <span>
                <span class="past-title">{visit.title}</span>
                <span class="small faint">{[visit.archive, ago(Date.now() - visit.at)].filter(Boolean).join(" · ")}</span>
              </span>
            </a>
          </li>
        ))}
      </ol>
      {visits.length > 0 && (
        <button type="button" class="tool" onClick={clearHistory}>
          Clear history
        </button>
      )}
    </Sheet>
  );
}

function Thumb({ visit }: { visit: Visit }) {
  const { query } = fromQuery(visit.url);
  const [blob, setBlob] = useState<Blob | null>(null);
  const url = useBlobUrl(blob);
  useEffect(() => {
    if (query.kind === "image") void pictures.find(query.key).then((found) => setBlob(found?.size ? found.blob : null));
  }, [visit.url]);
  if (url) return <img src={url} alt="" />;
  return visit.thumb ? <Remote src={api.thumbnailUrl(visit.thumb, visit.archive)} alt="" /> : <span class="no-image" />;
}

function ago(milliseconds: number): string {
  const minutes = Math.floor(milliseconds / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ago`;
  return `${count(Math.floor(hours / 24))} d ago`;
}
