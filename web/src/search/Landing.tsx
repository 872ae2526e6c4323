import { Contours, Icon } from "../icons";
import { Sharp } from "../Sharp";
import { about, facets, go } from "../store";
import { ChooseImage } from "./DropZone";
import { askRecord } from "./run";
import { count, shortId } from "./why";
import { WordsField } from "./WordsField";

/** The start page: supply an image, or start from a record of the archive. */
export function Landing() {
  const archive = about.value;
  if (!archive) return null;
  const examples = facets.value?.examples ?? [];
  return (
    <section class="landing" aria-label="Start">
      <div class="hero">
        <Contours />
        <div class="hero-text">
          <h1>Find look-alike places</h1>
          {archive.encodes_images ? (
            <>
              <p>
                Drop an image anywhere, paste one, or choose a file. It is compared with{" "}
                {count(archive.records)} records.
              </p>
              <div class="row">
                <ChooseImage />
                {facets.value?.bbox && <BrowseMap />}
              </div>
              <WordsField />
            </>
          ) : (
            <p>
              This archive of {count(archive.records)} records has no model to encode new images. Start with one of its
              records.
            </p>
          )}
          {!archive.encodes_images && <WordsField />}
          {!archive.encodes_images && facets.value?.bbox && <BrowseMap />}
        </div>
      </div>
      {examples.length > 0 && (
        <>
          <h2 class="rule">Or start with a record of the archive</h2>
          <ul class="examples">
            {examples.map((id) => (
              <li key={id}>
                <button type="button" class="example" onClick={() => askRecord(id)}>
                  <Sharp id={id} archive={archive.name} />
                  <span class="mono clip" title={id}>
                    {shortId(id)}
                  </span>
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

/** Shows where the records are; a box drawn there finds those in it. */
function BrowseMap() {
  return (
    <button type="button" class="tool" onClick={() => go({ view: "both" })}>
      <Icon name="map" /> Start on the map
    </button>
  );
}
