import { useEffect, useId, useState } from "preact/hooks";
import type { Box } from "../names";
import { parseBox } from "./geometry";

type Texts = [string, string, string, string];

const NAMES = ["West", "South", "East", "North"] as const;
const EMPTY: Texts = ["", "", "", ""];

/** A box by its four sides in degrees: what a drag does, for the keyboard. */
export function BoxFields({ box, onBox }: { box: Box | null; onBox: (box: Box) => void }) {
  const [texts, setTexts] = useState<Texts>(EMPTY);
  const [wrong, setWrong] = useState("");
  const id = useId();
  useEffect(() => {
    setTexts(box ? (box.map(String) as Texts) : EMPTY);
    setWrong("");
  }, [box]);
  const submit = (event: Event) => {
    event.preventDefault();
    const found = parseBox(texts);
    setWrong(typeof found === "string" ? found : "");
    if (typeof found !== "string") onBox(found);
  };
  return (
    <details class="map-numbers">
      <summary>Enter coordinates</summary>
      <form onSubmit={submit} noValidate>
        {NAMES.map((name, i) => (
          <label key={name}>
            {name}
            <input
              inputMode="decimal"
              autocomplete="off"
              value={texts[i]}
              placeholder="degrees"
              aria-describedby={wrong ? `${id}-wrong` : undefined}
              aria-invalid={wrong.startsWith(name) || undefined}
              onInput={(event) => setTexts(texts.with(i, event.currentTarget.value) as Texts)}
            />
          </label>
        ))}
        <button type="submit" class="map-button">
          Apply
        </button>
        <p id={`${id}-wrong`} class="map-wrong" role="alert">
          {wrong}
        </p>
      </form>
    </details>
  );
}
