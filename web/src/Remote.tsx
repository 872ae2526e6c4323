import { useEffect, useState } from "preact/hooks";
import { api } from "./store";

interface Props {
  src: string;
  alt: string;
  class?: string;
  eager?: boolean;
}

/** An image of the service. With a token it is fetched, since `<img>` could not send one. */
export function Remote({ src, alt, class: name, eager }: Props) {
  const [failed, setFailed] = useState(false);
  const [url, setUrl] = useState<string | null>(api.hasToken ? null : src);
  useEffect(() => {
    setFailed(false);
    if (!api.hasToken) {
      setUrl(src);
      return;
    }
    const stop = new AbortController();
    let made: string | null = null;
    api.image(src, stop.signal).then(
      (blob) => setUrl((made = URL.createObjectURL(blob))),
      () => !stop.signal.aborted && setFailed(true),
    );
    return () => {
      stop.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [src]);
  if (failed) return <span class={`no-image ${name ?? ""}`} role="img" aria-label={alt || "No image"} />;
  if (!url) return <span class={`no-image waiting ${name ?? ""}`} />;
  return (
    <img src={url} alt={alt} class={name} loading={eager ? "eager" : "lazy"} decoding="async" onError={() => setFailed(true)} />
  );
}

/** The URL of a blob for as long as it is shown. */
export function useBlobUrl(blob: Blob | null): string | null {
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    if (!blob) {
      setUrl(null);
      return;
    }
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}
