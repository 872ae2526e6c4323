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
        A colored label is one that the query has too; one in italics was predicted by the model and not annotated. “3 of 4
        predicted query labels” counts the labels that the model predicts for the query, and how many of them for the result. Cosine is 1 for the
        same image; with Hash the number counts bits that differ, with Labels + hash it adds predicted labels that differ.
      </p>
    </Sheet>
  );
}
