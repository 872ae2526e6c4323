import { useEffect, useState } from "preact/hooks";
import { Remote, useBlobUrl } from "./Remote";
import { placed, Sharpener, sideFor, type Part } from "./sharp";
import { api } from "./store";

const sharpener = new Sharpener(api);

interface Props {
  id: string;
  archive: string | null;
  alt?: string;
  /** One of few large images: it comes before those of a grid. */
  eager?: boolean;
  /** Part of the image to outline: left, top, right and bottom as shares of it. */
  box?: Part | undefined;
}

/** A record's thumbnail, and over it the sharp image where that shows more and is in view. */
export function Sharp(props: Props) {
  return <Layers key={`${props.archive} ${props.id}`} {...props} />;
}

function Layers({ id, archive, alt = "", eager = false, box }: Props) {
  // Null where there is none.
  const [thumbnail, setThumbnail] = useState<HTMLImageElement | null | undefined>();
  const [blob, setBlob] = useState<Blob | null>(null);
  const url = useBlobUrl(blob);
  useEffect(() => {
    if (thumbnail === undefined || blob) return;
    let stop = new AbortController();
    const ask = (side: number) => void sharpener.ask(id, archive, side, stop.signal, eager).then((found) => found && setBlob(found));
    if (!thumbnail) {
      if (eager) ask(512);
      return () => stop.abort();
    }
    const watch = new IntersectionObserver(([seen]) => {
      // What was scrolled past is not fetched any more.
      stop.abort();
      const size = { width: thumbnail.naturalWidth, height: thumbnail.naturalHeight };
      const side = seen?.isIntersecting ? sideFor(size, thumbnail.clientWidth * devicePixelRatio) : null;
      if (side === null) return;
      stop = new AbortController();
      ask(side);
    });
    watch.observe(thumbnail);
    return () => {
      stop.abort();
      watch.disconnect();
    };
  }, [thumbnail, blob]);
  return (
    <>
      <Remote src={api.thumbnailUrl(id, archive)} alt={alt} eager={eager} onShown={setThumbnail} />
      {url && <img class="sharp" src={url} alt="" draggable={false} decoding="async" />}
      {box && thumbnail && <span class="hit-box" style={placed(box, thumbnail)} />}
    </>
  );
}
