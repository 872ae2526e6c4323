import { useEffect, useState } from "preact/hooks";
import { ApiError } from "./api";
import { api } from "./store";

interface Props {
  src: string;
  alt: string;
  class?: string;
  eager?: boolean;
  /** It is there to be seen; null when it will not be. */
  onShown?: (image: HTMLImageElement | null) => void;
}

const MOST_TRIES = 4;

/**
 * An image of the service. It is fetched where `<img>` would not do: with a token, which it could
 * not send, and after a failure, to learn whether waiting helps.
 */
export function Remote({ src, alt, class: name, eager, onShown }: Props) {
  const [fetched, setFetched] = useState(api.hasToken);
  const [shown, setShown] = useState<{ url: string | null; failed: boolean }>({ url: fetched ? null : src, failed: false });
  useEffect(() => {
    setShown({ url: fetched ? null : src, failed: false });
    if (!fetched) return;
    const stop = new AbortController();
    let made: string | null = null;
    patient(src, stop.signal).then(
      (blob) => setShown({ url: (made = URL.createObjectURL(blob)), failed: false }),
      () => !stop.signal.aborted && setShown({ url: null, failed: true }),
    );
    return () => {
      stop.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [src, fetched]);
  useEffect(() => {
    if (shown.failed) onShown?.(null);
  }, [shown.failed]);
  if (shown.failed) return <span class={`no-image ${name ?? ""}`} role="img" aria-label={alt || "No image"} />;
  if (!shown.url) return <span class={`no-image waiting ${name ?? ""}`} />;
  const onError = () => (fetched ? setShown({ url: null, failed: true }) : setFetched(true));
  return (
    <img
      src={shown.url}
      alt={alt}
      class={name}
      draggable={false}
      loading={eager ? "eager" : "lazy"}
      decoding="async"
      onLoad={(event) => onShown?.(event.currentTarget)}
      onError={onError}
    />
  );
}

/** Fetch an image; retry a busy server after the time it gives. */
async function patient(url: string, signal: AbortSignal): Promise<Blob> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await api.image(url, signal);
    } catch (error) {
      const wait = error instanceof ApiError ? error.retryAfter : null;
      if (wait === null || tries === MOST_TRIES || signal.aborted) throw error;
      // Not all at once again.
      await new Promise((done) => setTimeout(done, wait * 1000 + Math.random() * 1500 * tries));
    }
  }
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
