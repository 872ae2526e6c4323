import { Icon } from "../icons";
import { pictureOf, sentOf, type Picture, type Raster } from "../images";
import { Remote, useBlobUrl } from "../Remote";
import { Sharp } from "../Sharp";
import type { Crop } from "../state";
import { about, api, archiveName, ask, dialog, found, picture, pictures, notify, state } from "../store";
import { useEffect, useState } from "preact/hooks";
import { ChooseImage } from "./DropZone";
import { NO_MARKS } from "./marks";
import { reader, searchRaster } from "./run";
import { shortId } from "./why";
import { WordsField } from "./WordsField";

/** The query: a record or an image, with its region and its labels. */
export function QueryCard() {
  const { query, positives } = state.value;
  const labels = found.value?.labels ?? [];
  const encodes = about.value?.encodes_images === true;
  if (query.kind === "none") {
    return (
      <section class="query-card empty" aria-label="Query">
        <p>{positives.length ? "Searching with your marks only." : `No query yet. ${encodes ? "Drop, paste or choose an image, or pick a result" : "Pick a result"}.`}</p>
        {encodes && <ChooseImage />}
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
  const croppable = shown && encodes;
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
        {query.kind === "image" && picture.value?.note && <p class="small">{`${picture.value.note}.`}</p>}
        {query.kind === "image" && picture.value?.raster && <RasterFields key={picture.value.key} picture={picture.value} raster={picture.value.raster} />}
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

/** Bands and scale of an uploaded raster. */
function RasterFields({ picture, raster }: { picture: Picture; raster: Raster }) {
  const [bands, setBands] = useState(raster.bands);
  const [scale, setScale] = useState(raster.scale);
  return (
    <details class="raster-fields" open={picture.size === null}>
      <summary class="small">Bands and stretch</summary>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void searchRaster({ ...raster, bands: bands.replaceAll(/\s/g, ""), scale: scale.trim() }, picture.name);
        }}
      >
        <label>
          Red, green, blue
          <input type="text" class="mono" inputMode="numeric" placeholder="like the archive" pattern="\s*[0-9]+\s*,\s*[0-9]+\s*,\s*[0-9]+\s*" title="Three band numbers from 1, such as 4,3,2" value={bands} onInput={(event) => setBands(event.currentTarget.value)} />
        </label>
        <label>
          Stretch
          <input type="text" class="mono" placeholder="percentile:2,98" value={scale} onInput={(event) => setScale(event.currentTarget.value)} />
        </label>
        <button type="submit" class="tool">
          Apply
        </button>
      </form>
    </details>
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
  if (picture && !picture.size) return <span class="no-image text">No preview: the whole image is searched</span>;
  return url ? <img src={url} alt={`Query: ${picture?.name ?? "image"}`} /> : <span class="no-image" />;
}

/** Open the cropper; the pixels of a record are fetched first. */
async function openCrop(): Promise<void> {
  const { query } = state.value;
  if (query.kind === "record") {
    try {
      const blob = await api.image(api.chipUrl(query.id, archiveName.value || null, 2048));
      const made = await pictureOf(blob, query.id, reader());
      await pictures.keep(made);
      picture.value = made;
    } catch {
      notify("The full-size image of this record is not available, so it cannot be cropped.");
      return;
    }
  }
  dialog.value = "crop";
}
