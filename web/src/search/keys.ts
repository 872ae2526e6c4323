/** What a key does in the grid of results. */

export type GridAction =
  | { readonly kind: "focus"; readonly at: number }
  | { readonly kind: "good" | "bad" | "open" | "query" | "select" }
  | null;

export interface KeyPress {
  readonly key: string;
  readonly ctrlKey?: boolean;
  readonly metaKey?: boolean;
  readonly altKey?: boolean;
}

/** Return the action of a key when the hit `at` of `count` is focused, in rows of `columns`. */
export function gridKey(press: KeyPress, at: number, count: number, columns: number): GridAction {
  if (press.ctrlKey || press.metaKey || press.altKey || !count) return null;
  const to = (next: number): GridAction => ({ kind: "focus", at: Math.min(count - 1, Math.max(0, next)) });
  switch (press.key) {
    case "ArrowRight":
      return to(at + 1);
    case "ArrowLeft":
      return to(at - 1);
    case "ArrowDown":
      // From the last full row on, down leads to the last hit.
      return to(at + columns);
    case "ArrowUp":
      return at - columns < 0 ? to(at) : to(at - columns);
    case "Home":
      return to(0);
    case "End":
      return to(count - 1);
    case "PageDown":
      return to(at + 3 * columns);
    case "PageUp":
      return to(at - 3 * columns);
    case "+":
    case "=":
      return { kind: "good" };
    case "-":
    case "_":
      return { kind: "bad" };
    case "Enter":
      return { kind: "open" };
    case "x":
    case "X":
      return { kind: "select" };
    case "q":
      return { kind: "query" };
    default:
      return null;
  }
}

/** Keys that work wherever no text is typed, with what they do. */
export const HELP: readonly (readonly [string, string])[] = [
  ["← ↑ → ↓", "move between results"],
  ["+", "mark as good, or remove the mark"],
  ["-", "mark as bad, or remove the mark"],
  ["x", "select; with Shift, all in between"],
  ["r", "refine: search again with the marks"],
  ["b", "compare with the previous ranking"],
  ["Enter", "open the details"],
  ["q", "search with the focused result"],
  ["Esc", "close the open panel"],
  ["/", "go to the label filter"],
  ["m", "switch between grid, both and map"],
  ["h", "history"],
  ["c", "collections"],
  ["w", "saved searches"],
  ["?", "this help"],
];

/** Whether a key belongs to the element it was pressed in, and is no shortcut. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement)
    return true;
  return target instanceof HTMLInputElement && !["button", "checkbox", "radio", "file"].includes(target.type);
}
