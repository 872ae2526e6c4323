import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ApiError } from "../api";
import { api, ask, state } from "../store";
import { ChooseImage } from "./DropZone";

interface Props {
  error: ApiError;
  onRetry: () => void;
}

/** Says what went wrong and what helps: a token, waiting, or another request. */
export function ErrorState({ error, onRetry }: Props) {
  if (error.status === 401 || (error.status === 403 && api.hasToken)) return <TokenForm error={error} onDone={onRetry} />;
  if (error.away)
    return (
      <Trouble title="The server is not responding">
        <p>It may have been stopped, or the connection is down. The page retries automatically.</p>
        <div class="row">
          <Countdown seconds={5} onRetry={onRetry} />
        </div>
      </Trouble>
    );
  if (error.retryAfter !== null)
    return (
      <Trouble title={error.status === 429 ? "The server is busy" : "Not ready yet"}>
        <p>{error.message}</p>
        <div class="row">
          <Countdown seconds={error.retryAfter} onRetry={onRetry} />
          {error.status === 503 && <UseAutomatic />}
        </div>
      </Trouble>
    );
  return (
    <Trouble title={error.status >= 500 ? "Server error" : "Search failed"}>
      <p>{error.message}</p>
      <div class="row">
        <button type="button" class="tool" onClick={onRetry}>
          Try again
        </button>
        {error.status < 500 && <UseAutomatic />}
      </div>
    </Trouble>
  );
}

function UseAutomatic() {
  if (state.value.mode === "auto") return null;
  return (
    <button type="button" class="primary" onClick={() => ask({ mode: "auto" })}>
      Use the automatic method
    </button>
  );
}

/** Shown for a link whose image is in another browser. */
export function QueryImageNeeded() {
  return (
    <Trouble title="This search needs the query image">
      <p>
        The link refers to an image that was dropped into another browser; links do not contain images. Drop or choose
        the same image to repeat the search.
      </p>
      <ChooseImage />
    </Trouble>
  );
}

export function Trouble({ title, children, level = 2 }: { title: string; children: ComponentChildren; level?: 1 | 2 }) {
  return (
    <section class="trouble" role="alert">
      {level === 1 ? <h1>{title}</h1> : <h2>{title}</h2>}
      {children}
    </section>
  );
}

function TokenForm({ error, onDone }: { error: ApiError; onDone: () => void }) {
  const [text, setText] = useState("");
  const wrong = api.hasToken;
  return (
    <Trouble title={wrong ? "Invalid token" : "Token required"}>
      <p>
        {wrong ? error.message : "This service requires a token. Ask its operator for one."} It is
        kept until this tab is closed.
      </p>
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          api.setToken(text);
          onDone();
        }}
      >
        <input
          type="password"
          aria-label="Token"
          autocomplete="off"
          required
          class="mono"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" class="primary">
          Use token
        </button>
      </form>
    </Trouble>
  );
}

function Countdown({ seconds, onRetry }: { seconds: number; onRetry: () => void }) {
  const [left, setLeft] = useState(Math.max(1, seconds));
  const [waiting, setWaiting] = useState(true);
  useEffect(() => {
    if (!waiting) return;
    const timer = setInterval(() => setLeft((now) => Math.max(0, now - 1)), 1000);
    return () => clearInterval(timer);
  }, [waiting]);
  useEffect(() => {
    if (left > 0) return;
    onRetry();
    setLeft(Math.max(5, seconds));
  }, [left]);
  return (
    <>
      <button type="button" class="tool" onClick={onRetry}>
        Try again {waiting && <span class="mono faint">{`in ${left} s`}</span>}
      </button>
      {waiting && (
        <button type="button" class="tool" onClick={() => setWaiting(false)}>
          Cancel
        </button>
      )}
    </>
  );
}
