import { useEffect, useState } from "preact/hooks";
import { Icon } from "../icons";
import { Remote } from "../Remote";
import { Sheet } from "../Sheet";
import { toQuery } from "../state";
import { api, archiveName, collection, dialog, go, notify, state } from "../store";
import type { CollectionAnswer, CollectionSummary } from "../types";
import { change, changesSent, fileName, keepMarks, keepNote, messageOf, openCollection, setWho, undo, whoIs } from "./collection";
import { suggest } from "./run";
import { fresh, lookForHits, watches } from "./watches";
import { SavedSearches } from "./WatchesSheet";
import { sentence, shortId } from "./why";

const close = () => (dialog.value = null);

/** All collections of the archive, and what can be done with the open one. */
export default function CollectionsSheet() {
  const [known, setKnown] = useState<readonly CollectionSummary[] | null>(null);
  const [failed, setFailed] = useState("");
  const [who, setName] = useState(whoIs());
  const open = collection.value;
  useEffect(() => {
    api.collections(archiveName.value || null).then(
      (answer) => setKnown(answer.collections),
      (error: unknown) => setFailed(messageOf(error)),
    );
  }, [open?.updated, open?.id]);
  const others = (known ?? []).filter((one) => one.id !== open?.id);
  return (
    <Sheet title="Collections" onClose={close} side>
      {open && <Open key={open.id} open={open} others={others} />}
      {failed && <p class="note">{failed}</p>}
      {known && !known.length && (
        <p class="note">Mark or select results, then choose “Save as collection”. A collection is stored on the server; with its link others can continue it.</p>
      )}
      {others.length > 0 && (
        <ul class="past" aria-label="All collections">
          {others.map((one) => (
            <li key={one.id}>
              <button type="button" class="collection-open" onClick={() => void show(one.id)}>
                <span class="past-title">{one.name}</span>
                <span class="small faint">{`${one.members} ${one.members === 1 ? "member" : "members"} · ${new Date(one.updated).toLocaleString()}`}</span>
              </button>
            </li>
          ))}
        </ul>
      )}
      <label class="filter">
        Your name
        <input
          type="text"
          maxLength={200}
          placeholder="Shown beside your marks"
          value={who}
          onInput={(event) => {
            setName(event.currentTarget.value);
            setWho(event.currentTarget.value);
          }}
        />
      </label>
      <label class="tool collection-import">
        <Icon name="export" /> Import a collection
        <input
          type="file"
          accept=".json,application/json"
          class="hidden"
          onChange={(event) => {
            void imported(event.currentTarget.files?.[0]);
            event.currentTarget.value = ""; // the same file can be chosen again
          }}
        />
      </label>
    </Sheet>
  );
}

function Open({ open, others }: { open: CollectionAnswer; others: readonly CollectionSummary[] }) {
  const [name, setName] = useState(open.name);
  const own = (watches.value ?? []).filter((one) => one.collection === open.id);
  const labeled = open.members.filter((one) => one.labels.length).length;
  return (
    <section class="collection" aria-label="Open collection">
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          if (name.trim()) void change({ name: name.trim(), old_name: open.name });
        }}
      >
        <input type="text" aria-label="Name of the collection" maxLength={200} value={name} onInput={(event) => setName(event.currentTarget.value)} />
        <button type="submit" class="tool" disabled={!name.trim() || name.trim() === open.name}>
          Rename
        </button>
      </form>
      <div class="row">
        <button type="button" class="tool" onClick={() => void copy(open)}>
          <Icon name="link" /> Copy link
        </button>
        <button type="button" class="tool" disabled={!open.revision} onClick={() => void undo()}>
          Undo
        </button>
        <button type="button" class="tool" title="Its members, query with images, and saved searches, for another server" onClick={() => void download(() => api.exportedCollection(open.id), `${fileName(open.name)}.json`)}>
          Export
        </button>
        <button type="button" class="tool" disabled={!labeled} title="A table that landcue index --labels and landcue train read" onClick={() => void download(() => api.collectionLabels(open.id), `${fileName(open.name)}-labels.csv`)}>
          {`Export ${labeled} labels`}
        </button>
        <button type="button" class="tool" onClick={() => go({ collection: null })}>
          Close collection
        </button>
        <button type="button" class="tool" onClick={() => void remove(open)}>
          Delete
        </button>
      </div>
      <SuggestFor open={open} />
      {own.length > 0 && (
        <>
          <h3 class="small">Saved searches</h3>
          <SavedSearches known={own} name="Saved searches of the collection" unseen={fresh.value} />
        </>
      )}
      {others.length > 0 && (
        <select
          aria-label="Add the members of another collection"
          value=""
          onChange={(event) => {
            const merge = event.currentTarget.value;
            event.currentTarget.value = "";
            if (merge) void change({ merge });
          }}
        >
          <option value="">Add the members of …</option>
          {others.map((one) => (
            <option key={one.id} value={one.id}>
              {`${one.name} (${one.members})`}
            </option>
          ))}
        </select>
      )}
      <ul class="members" aria-label="Members">
        {open.members.slice(0, 300).map((one) => (
          <li key={one.id}>
            <Remote src={api.thumbnailUrl(one.id, open.archive)} alt="" />
            <div>
              <span class="clip" title={one.id}>
                {shortId(one.id)}
              </span>
              <span class="small faint">{[one.mark, one.labels.join("; "), one.who].filter(Boolean).join(" · ")}</span>
              <input
                type="text"
                aria-label={`Note: ${one.id}`}
                placeholder="Note"
                maxLength={2000}
                value={one.note ?? ""}
                onChange={(event) => void keepNote(one.id, event.currentTarget.value.trim())}
              />
            </div>
            {one.mark && (
              <button type="button" class="quiet" aria-label={`Remove mark: ${one.id}`} title="Remove mark" onClick={() => keepMarks([one.id], null)}>
                <Icon name="close" />
              </button>
            )}
          </li>
        ))}
      </ul>
      {open.members.length > 300 && <p class="small faint">{`300 of ${open.members.length} members are listed; exports hold all.`}</p>}
    </section>
  );
}

/** Choose what to find more of: what is marked good, or what has a label. */
function SuggestFor({ open }: { open: CollectionAnswer }) {
  const [label, setLabel] = useState("");
  const names = [...new Set(open.members.flatMap((one) => one.labels))].sort();
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault();
        close();
        void suggest(label || null);
      }}
    >
      <label class="inline">
        <span class="small">Suggest more results like those</span>
        <select aria-label="Find more of" value={label} onChange={(event) => setLabel(event.currentTarget.value)}>
          <option value="">marked good</option>
          {names.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <button type="submit" class="tool">
        Suggest
      </button>
    </form>
  );
}

async function show(id: string): Promise<void> {
  try {
    openCollection(await api.collection(id));
    close();
  } catch (error) {
    notify(messageOf(error));
  }
}

async function copy(open: CollectionAnswer): Promise<void> {
  const url = new URL(toQuery({ ...state.value, collection: open.id, open: null }), location.href);
  try {
    await navigator.clipboard.writeText(url.href);
    notify("Link copied.");
  } catch {
    notify("The browser blocked copying; copy the link from the address bar.");
  }
}

async function download(read: () => Promise<Blob>, name: string): Promise<void> {
  try {
    await changesSent();
    save(await read(), name);
  } catch (error) {
    notify(messageOf(error));
  }
}

async function remove(open: CollectionAnswer): Promise<void> {
  const own = (watches.value ?? []).filter((one) => one.collection === open.id).length;
  if (!confirm(`Delete “${open.name}” for everyone?${own ? " Its saved searches stay in the list of all saved searches." : ""}`)) return;
  try {
    await api.deleteCollection(open.id);
    go({ collection: null });
  } catch (error) {
    notify(messageOf(error));
  }
}

async function imported(file: File | undefined): Promise<void> {
  if (!file) return;
  try {
    const { collection: made, problems } = await api.importCollection(await file.text(), archiveName.value || null);
    openCollection(made);
    void lookForHits();
    notify([`Imported the collection “${made.name}”.`, ...problems.map(sentence)].join(" "));
  } catch (error) {
    notify(`${file.name} was not imported. ${messageOf(error)}`);
  }
}

function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  [link.href, link.download] = [url, name];
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
