import { useEffect, useState } from "preact/hooks";
import { ApiError } from "../api";

export type Loadable<T> =
  | { readonly state: "waiting" }
  | { readonly state: "there"; readonly value: T }
  | { readonly state: "failed"; readonly status: number; readonly why: string; readonly retry: () => void };

/** Ask once for each key; what comes after the key has changed is dropped. */
export function useAnswer<T>(ask: (signal: AbortSignal) => Promise<T>, key: string): Loadable<T> {
  const [turn, setTurn] = useState(0);
  const [request, setRequest] = useState<Loadable<T>>({ state: "waiting" });
  useEffect(() => {
    const stop = new AbortController();
    setRequest({ state: "waiting" });
    ask(stop.signal).then(
      (value) => !stop.signal.aborted && setRequest({ state: "there", value }),
      (error: unknown) => {
        if (stop.signal.aborted) return;
        const [status, why] =
          error instanceof ApiError ? [error.status, error.message] : [0, "The answer could not be read."];
        setRequest({ state: "failed", status, why, retry: () => setTurn((before) => before + 1) });
      },
    );
    return () => stop.abort();
  }, [key, turn]);
  return request;
}
