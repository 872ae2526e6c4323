import { Remote } from "../Remote";
import { api, archiveName, before, found, showBefore, state } from "../store";
import { compare, inWords } from "./compare";

/** What the last change did to the ranking, and a way to see the one before. */
export function ChangeBar() {
  const old = before.value;
  const now = found.value;
  if (!old || !now) return null;
  const { query, positives, negatives } = state.value;
  const queryIds = new Set([...positives, ...negatives, ...(query.kind === "record" ? [query.id] : [])]);
  const changes = compare(
    old.hits.map((hit) => hit.id),
    now.hits.map((hit) => hit.id),
    queryIds,
  );
  return (
    <section class="change" aria-label="Before and after">
      <p>
        <strong>{inWords(changes)}</strong> <span class="faint">{`after ${old.change}`}</span>
      </p>
      <button
        type="button"
        class="tool"
        aria-pressed={showBefore.value}
        title="Compare before and after  b"
        onClick={() => (showBefore.value = !showBefore.value)}
      >
        {showBefore.value ? "Show after" : "Show before"}
      </button>
      {!showBefore.value && changes.dropped.length > 0 && (
        <ul class="dropped" aria-label="Dropped results">
          {changes.dropped.slice(0, 16).map((id) => (
            <li key={id} title={`Dropped: ${id}`}>
              <Remote src={api.thumbnailUrl(id, archiveName.value || null)} alt={id} />
            </li>
          ))}
          {changes.dropped.length > 16 && <li class="mono faint">{`+${changes.dropped.length - 16}`}</li>}
        </ul>
      )}
    </section>
  );
}
