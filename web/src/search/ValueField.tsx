import { useEffect, useState } from "preact/hooks";

interface Props<T> {
  id: string;
  label: string;
  placeholder: string;
  value: T | null;
  write: (value: T) => string;
  /** Null where the text is no such value. */
  read: (text: string) => T | null;
  /** Said below it, and instead of that where the text cannot be read. */
  says: string;
  wrong: string;
  onChange: (value: T | null) => void;
}

/** A value written as text. Text that cannot be read changes nothing. */
export function ValueField<T>({ id, label, placeholder, value, write, read, says, wrong, onChange }: Props<T>) {
  const known = value === null ? "" : write(value);
  const [text, setText] = useState(known);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    setText(known);
    setFailed(false);
  }, [known]);
  const apply = () => {
    const next = read(text);
    setFailed(next === null && text.trim() !== "");
    if ((next !== null || !text.trim()) && (next === null ? "" : write(next)) !== known) onChange(next);
  };
  return (
    <>
      <label for={id}>{label}</label>
      <input
        id={id}
        type="text"
        class="mono"
        inputMode="decimal"
        autocomplete="off"
        placeholder={placeholder}
        aria-invalid={failed}
        aria-describedby={`${id}-says`}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onChange={apply}
      />
      <p class={failed ? "small wrong" : "small faint"} id={`${id}-says`}>
        {failed ? wrong : says}
      </p>
    </>
  );
}
