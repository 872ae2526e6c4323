import { Icon } from "../icons";
import { pictureOf, sentOf, type Picture } from "../images";
import { Remote, useBlobUrl } from "../Remote";
import { Sharp } from "../Sharp";
import type { Crop } from "../state";
import { about, api, archiveName, ask, dialog, found, picture, pictures, notify, state } from "../store";
import { useEffect, useState } from "preact/hooks";
import { ChooseImage } from "./DropZone";
import { NO_MARKS } from "./marks";
import { shortId } from "./why";
import { WordsField } from "./WordsField";

/** The query: a record or an image, with its region and its labels. */
export function QueryCard() {
  const { query, positives } = state.value;
  const labels = found.value?.labels ?? [];
  if (query.kind === "none") {
    return (
      <section class="query-card empty" aria-label="Query">
        <p>{positives.length ? "Searching with your marks only." : "No query yet. Drop, paste or choose an image, or pick a result."}</p>
        <ChooseImage />
        <WordsField />
      </section>
    );
  }
  if (query.kind === "text") {
    return (
      <section class="query-card empty" aria-label="Query">
        <WordsField key={query.text} given={query.text} />
        <button type="button" class="tool" onClick={() => ask({ query: { kind: "none" }, least: null, ...NO_MARKS })}>
          <Icon name="close" /> Clear
        </button>
      </section>
    );
  }
  const name = query.kind === "record" ? query.id : query.kind === "kept" ? "An image kept with the collection" : (picture.value?.name ?? "An image");
  const crop = query.kind === "image" ? query.crop : null;
  const shown = query.kind === "record" || (picture.value?.size ?? null) !== null;
  const croppable = shown && about.value?.encodes_images === true;
  return (
    <section class="query-card" aria-label="Query">
      <div class="query-image">
        {query.kind === "record" ? (
          <Sharp id={query.id} archive={archiveName.value || null} alt={`Query: ${query.id}`} eager />
        ) : query.kind === "kept" ? (
          <Remote src={api.keptImageUrl(query.id)} alt="Query: an image kept with the collection" />
        ) : (
          <Uploaded picture={picture.value} crop={crop} />
        )}
      </div>
      <div class="query-facts">
        <p class="mono clip" title={name}>
          {query.kind === "record" ? shortId(name) : name}
        </p>
        {crop && <p class="small">{`Region of ${crop.width} × ${crop.height} pixels`}</p>}
        {labels.length > 0 && (
          <ul class="labels" aria-label="Labels of the query">
            {labels.map((label) => (
              <li key={label} class="label">
                {label}
              </li>
            ))}
          </ul>
        )}
        <div class="row">
          {croppable && (
            <button type="button" class="tool" onClick={() => void openCrop()}>
              <Icon name="crop" /> Crop
            </button>
          )}
          <button type="button" class="tool" onClick={() => ask({ query: { kind: "none" }, least: null, ...NO_MARKS })}>
            <Icon name="close" /> Clear
          </button>
        </div>
      </div>
    </section>
  );
}

function Uploaded({ picture, crop }: { picture: Picture | null; crop: Crop | null }) {
  const [shown, setShown] = useState<Blob | null>(null);
  useEffect(() => {
    let wanted = true;
    setShown(null);
    if (picture?.size) void sentOf(picture, crop).then((blob) => wanted && setShown(blob));
    return () => {
      wanted = false;
    };
  }, [picture, crop]);
  const url = useBlobUrl(shown);
  if (picture && !picture.size) return <span class="no-image text">TIFF: no preview; the whole image is searched</span>;
  return url ? <img src={url} alt={`Query: ${picture?.name ?? "image"}`} /> : <span class="no-image" />;
}

/** Open the cropper; the pixels of a record are fetched first. */
async function openCrop(): Promise<void> {
  const { query } = state.value;
  if (query.kind === "record") {
    try {
      const blob = await api.image(api.chipUrl(query.id, archiveName.value || null, 2048));
      const made = await pictureOf(blob, query.id);
      await pictures.keep(made);
      picture.value = made;
    } catch {
      notify("The full-size image of this record is not available, so it cannot be cropped.");
      return;
    }
  }
  dialog.value = "crop";
}
