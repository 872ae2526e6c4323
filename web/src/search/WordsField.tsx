import { useState } from "preact/hooks";
import { NO_FILTERS } from "../state";
import { about, ask, labels, notify } from "../store";
import { NO_MARKS } from "./marks";
import { meant } from "./words";

/** Searches with words: by the model where it takes text, otherwise by the labels that they mean. */
export function WordsField({ given = "" }: { given?: string }) {
  const [text, setText] = useState(given);
  const byText = about.value?.encodes_text === true;
  if (!byText && !labels.value.length) return null;
  return (
    <form
      class="words"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim()) searchWords(text.trim(), byText);
      }}
    >
      <div class="row">
        <input
          type="search"
          aria-label="Search with words"
          aria-describedby="words-say"
          placeholder={byText ? "Describe a place" : "Search labels: airfield, woods …"}
          maxLength={500}
          autocomplete="off"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" class="tool" disabled={!text.trim()}>
          Search
        </button>
      </div>
      <p class="small faint" id="words-say">
        {byText ? "The model compares images with your description." : "This model takes no text: words are matched to labels."}
      </p>
    </form>
  );
}

function searchWords(text: string, byText: boolean): void {
  if (byText) return ask({ query: { kind: "text", text }, least: null, ...NO_MARKS });
  const found = meant(text, labels.value.map((one) => one.name));
  if (!found.length) return notify(`No label matches “${text}”. Choose one from the list of labels.`);
  ask({ query: { kind: "none" }, least: null, filters: { ...NO_FILTERS, any: found.map((one) => one.label) }, ...NO_MARKS });
  const words = found.map(({ label, how }) => (how === "same" ? label : `${label} (${how})`));
  notify(`Records labeled ${words.join(" or ")}: matched to “${text}” by name.`);
}
