import { Icon } from "../icons";
import { Remote } from "../Remote";
import { api, archiveName, draft, pendingMarks } from "../store";
import { markHit, sendFeedback } from "./act";
import { clearMarks, refine } from "./run";

/** The marks, and what to do with them. It stays in view while there are any. */
export function MarksBar() {
  const { positives, negatives } = draft.value;
  if (!positives.length && !negatives.length && !pendingMarks.value) return null;
  return (
    <section class="marks" aria-label="Marks">
      <Pile name="Good" ids={positives} as="good" />
      <Pile name="Bad" ids={negatives} as="bad" />
      <div class="row end">
        <button type="button" class="tool" onClick={clearMarks}>
          Clear
        </button>
        <button type="button" class="tool" title="Save these marks on the server" onClick={() => void sendFeedback()}>
          Save as feedback
        </button>
        <button type="button" class="primary" disabled={!pendingMarks.value} title="Search again with the marks  r" onClick={refine}>
          Refine
        </button>
      </div>
    </section>
  );
}

function Pile({ name, ids, as }: { name: string; ids: readonly string[]; as: "good" | "bad" }) {
  if (!ids.length) return null;
  return (
    <div class="pile" data-mark={as}>
      <span class="small">
        <Icon name={as === "good" ? "plus" : "minus"} /> {`${ids.length} ${name.toLowerCase()}`}
      </span>
      <ul aria-label={`Marked ${name.toLowerCase()}`}>
        {ids.slice(-8).map((id) => (
          <li key={id}>
            <button type="button" aria-label={`Remove mark: ${id}`} title={`Remove mark: ${id}`} onClick={() => markHit(id, as)}>
              <Remote src={api.thumbnailUrl(id, archiveName.value || null)} alt="" />
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
