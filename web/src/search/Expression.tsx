import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ask, labels, phase, searchError, state } from "../store";
import { suggest, wordAt } from "./filters";
import { quoted } from "./request";
import { count } from "./why";

const MOST_SUGGESTED = 6;

/** A label expression: names are completed while one types, and what is wrong with it stands below it. */
export function Expression() {
  const { expression } = state.value.filters;
  const field = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(expression);
  const [caret, setCaret] = useState<number | null>(null);
  const [chosen, setChosen] = useState(-1);
  const completed = useRef<number | null>(null);
  useEffect(() => setText(expression), [expression]);
  // With the completed text, before a next key is handled: later it would move the caret of somebody who types on.
  useLayoutEffect(() => {
    if (completed.current === null) return;
    field.current?.focus();
    field.current?.setSelectionRange(completed.current, completed.current);
    completed.current = null;
  });
  const [one, other] = labels.value.map((label) => quoted(label.name));
  const example = one && other ? `${one} and not ${other}` : "water and not ship";
  const word = caret === null ? null : wordAt(text, caret);
  const known = word ? suggest(labels.value, word.text, MOST_SUGGESTED).filter((label) => label.name !== word.text) : [];
  const error = phase.value === "failed" && expression ? searchError.value : null;
  const wrong = error && [400, 422].includes(error.status) && /label|expression/i.test(error.message) ? error.message : "";
  const apply = () => {
    setCaret(null);
    if (text.trim() !== expression) ask({ filters: { ...state.value.filters, expression: text.trim() } });
  };
  const complete = (name: string) => {
    if (!word) return;
    const before = text.slice(0, word.start) + quoted(name);
    setText(before + text.slice(word.end));
    setCaret(null);
    setChosen(-1);
    completed.current = before.length;
  };
  return (
    <form
      class="filter expression"
      onSubmit={(event) => {
        event.preventDefault();
        apply();
      }}
    >
      <label for="expression">Expression</label>
      <input
        id="expression"
        ref={field}
        type="text"
        class="mono"
        role="combobox"
        aria-expanded={known.length > 0}
        aria-controls="expression-names"
        aria-autocomplete="list"
        aria-activedescendant={chosen >= 0 && known[chosen] ? `expression-name-${chosen}` : undefined}
        aria-invalid={wrong !== ""}
        aria-describedby={wrong ? "expression-wrong" : undefined}
        spellcheck={false}
        autocomplete="off"
        maxLength={2000}
        placeholder={example}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setCaret(event.currentTarget.selectionStart);
          setChosen(-1);
        }}
        onKeyDown={(event) => {
          const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
          if (event.key === "Escape" && known.length) setCaret(null);
          else if (by && known.length) setChosen((now) => (now + by + known.length + (now < 0 && by < 0 ? 1 : 0)) % known.length);
          else if (event.key === "Enter" && chosen >= 0 && known[chosen]) complete(known[chosen].name);
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
        onBlur={apply}
      />
      <ul id="expression-names" role="listbox" aria-label="Labels" hidden={!known.length}>
        {known.map((label, at) => (
          <li
            key={label.name}
            id={`expression-name-${at}`}
            role="option"
            aria-selected={at === chosen}
            // Before the field loses the focus and applies what it has.
            onPointerDown={(event) => {
              event.preventDefault();
              complete(label.name);
            }}
          >
            {label.name} <span class="mono faint">{count(label.records)}</span>
          </li>
        ))}
      </ul>
      {wrong && (
        <p class="small wrong" id="expression-wrong" role="alert">
          {wrong}
        </p>
      )}
    </form>
  );
}
