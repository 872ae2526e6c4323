import { Sheet } from "../Sheet";
import { dialog } from "../store";
import { HELP } from "./keys";

/** The keys, and what the numbers on the page mean. */
export function HelpSheet() {
  return (
    <Sheet title="Keyboard shortcuts" onClose={() => (dialog.value = null)}>
      <dl class="keys">
        {HELP.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="small">
        A colored label is one that the query has too, one in italics was predicted and not annotated, and cue 16/17 says how
        many predicted labels agree with the query. Cosine is 1 for the same image; in mode Code the number counts
        bits that differ, in mode Cue it adds predicted labels that differ.
      </p>
    </Sheet>
  );
}
