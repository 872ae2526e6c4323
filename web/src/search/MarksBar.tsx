import { useState } from "preact/hooks";
import { Icon } from "../icons";
import { Remote } from "../Remote";
import { about, api, archiveName, collection, dialog, draft, labels, pendingMarks, selection } from "../store";
import { markHit, markHits, selectAll } from "./act";
import { createCollection, giveLabel, undo } from "./collection";
import { clearMarks, refine, suggest } from "./run";

/** The marks, and what to do with them. It stays in view while there are any, or a collection is open. */
export function MarksBar() {
  const { positives, negatives } = draft.value;
  const kept = collection.value;
  const chosen = [...selection.value];
  if (!positives.length && !negatives.length && !pendingMarks.value && !kept && !chosen.length) return null;
  const marks = positives.length + negatives.length > 0;
  return (
    <section class="marks" aria-label="Marks">
      {chosen.length > 0 && <Selected ids={chosen} />}
      {kept && (
        <button type="button" class="tool marks-name" title="Open the collection  c" onClick={() => (dialog.value = "collections")}>
          <Icon name="pile" /> <span class="clip">{kept.name}</span>
          <span class="mono faint">{kept.members.length}</span>
        </button>
      )}
      <Pile name="Good" ids={positives} as="good" />
      <Pile name="Bad" ids={negatives} as="bad" />
      <div class="row end">
        {kept && (
          <button type="button" class="tool" disabled={!kept.revision} title="Undo the last change of the collection" onClick={() => void undo()}>
            Undo
          </button>
        )}
        {marks && (
          <button type="button" class="tool" title="Remove all marks" onClick={clearMarks}>
            Clear
          </button>
        )}
        {!kept && about.value?.collections && (
          <button type="button" class="tool" title="Store these marks on the server, to continue later or with others" onClick={() => void createCollection()}>
            Save as collection
          </button>
        )}
        <button type="button" class="tool" title="Suggest what to label next: results whose marks would be most informative" onClick={() => void suggest()}>
          Suggest
        </button>
        <button type="button" class="primary" disabled={!pendingMarks.value} title="Search again with the marks  r" onClick={refine}>
          Refine
        </button>
      </div>
    </section>
  );
}

/** What can be done with the selected hits at once. */
function Selected({ ids }: { ids: readonly string[] }) {
  const [text, setText] = useState("");
  return (
    <div class="row selected" role="group" aria-label="Selection">
      <span class="small">{`${ids.length} selected`}</span>
      <button type="button" class="tool" onClick={() => selectAll()}>
        All shown
      </button>
      <button type="button" class="tool" onClick={() => markHits(ids, "good")}>
        <Icon name="plus" /> Good
      </button>
      <button type="button" class="tool" onClick={() => markHits(ids, "bad")}>
        <Icon name="minus" /> Bad
      </button>
      {about.value?.collections && (
        <form
          class="row"
          onSubmit={(event) => {
            event.preventDefault();
            const label = text.replaceAll(/[;|]/g, " ").trim();
            if (!label) return;
            setText("");
            void giveLabel(ids, label);
          }}
        >
          <input type="text" list="known-labels" aria-label="Label for the selection" placeholder="Label" maxLength={200} value={text} onInput={(event) => setText(event.currentTarget.value)} />
          <datalist id="known-labels">
            {labels.value.map((one) => (
              <option key={one.name} value={one.name} />
            ))}
          </datalist>
          <button type="submit" class="tool" disabled={!text.trim()}>
            Add label
          </button>
        </form>
      )}
      <button type="button" class="quiet" aria-label="Clear selection" title="Clear selection" onClick={() => selectAll(false)}>
        <Icon name="close" />
      </button>
    </div>
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
        {ids.slice(-24).map((id) => (
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
