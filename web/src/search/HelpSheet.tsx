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
        predicted query labels”: the model predicts 4 labels for the query, and 3 of them for the result too. Cosine is 1 for the
        same image; with Hash the number counts the bits that differ, with Labels + hash also the predicted labels that differ.
      </p>
    </Sheet>
  );
}
