import { useEffect } from "preact/hooks";
import { Header } from "./Header";
import { lazy } from "./lazy";
import type { ModelProps } from "./model/props";
import { DropAnywhere } from "./search/DropZone";
import { ErrorState } from "./search/ErrorState";
import { focusGrid } from "./search/act";
import { createCollection } from "./search/collection";
import { HelpSheet } from "./search/HelpSheet";
import { PastSheet } from "./search/PastSheet";
import { titleOf } from "./search/remember";
import { isSearch } from "./search/request";
import { askRecord, loadArchive, search } from "./search/run";
import { SearchPage } from "./search/SearchPage";
import { about, api, archiveError, archiveName, dialog, labels, phase, replaced, state, toast } from "./store";
import { dark } from "./theme";

const CollectionsSheet = lazy<object>(() => import("./search/CollectionsSheet"), "collections");
const WatchesSheet = lazy<object>(() => import("./search/WatchesSheet"), "saved searches");
const ChangesPage = lazy<object>(() => import("./change/ChangesPage"), "the changes");
const ModelPage = lazy<ModelProps>(() => import("./model/ModelPage"), "the model page");

/** The page. */
export function App() {
  const { page } = state.value;
  const name = page === "model" ? `Model of ${archiveName.value}` : page === "changes" ? `Changes in ${archiveName.value}` : titleOf(state.value);
  useEffect(() => {
    // What tabs, bookmarks and the browser's own history call it.
    document.title = page === "search" && !isSearch(state.value) ? "LandCue" : `${name} – LandCue`;
  }, [name, page]);
  useEffect(() => scrollTo(0, 0), [page]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => focusGrid() && event.preventDefault()}>
        Skip to results
      </a>
      <Header />
      {about.value?.deleted && (
        <p class="banner" role="alert">
          The folder of this archive was deleted. Results come from what the server still has in memory; images may be missing.
        </p>
      )}
      {replaced.value && (
        <p class="banner row" role="status">
          The archive changed since this page was opened.
          <button type="button" class="tool" onClick={() => void retry()}>
            Search the new version
          </button>
        </p>
      )}
      {about.value?.stale && (
        <p class="banner" role="status">
          The archive was indexed again. The new version is shown within seconds.
        </p>
      )}
      <main id="main" tabIndex={-1}>
        <Page />
      </main>
      <DropAnywhere />
      {dialog.value === "help" && <HelpSheet />}
      {dialog.value === "past" && <PastSheet />}
      {dialog.value === "collections" && <CollectionsSheet />}
      {dialog.value === "watches" && <WatchesSheet />}
      <div class="toasts" role="status" aria-live="polite">
        {toast.value && <p class="toast">{toast.value}</p>}
      </div>
    </>
  );
}

function Page() {
  const archive = about.value;
  if (archiveError.value)
    return (
      <>
        <h1 class="hidden">LandCue</h1>
        <ErrorState error={archiveError.value} onRetry={() => void retry()} />
      </>
    );
  if (!archive)
    return (
      <p class="note" role="status">
        Opening the archive …
      </p>
    );
  if (state.value.page === "search") return <SearchPage />;
  if (state.value.page === "changes") return <ChangesPage />;
  return <ModelPage api={api} about={archive} labels={labels.value} dark={dark.value} onQuery={askRecord} onKeep={keepSelected} />;
}

/** Save records that were selected on the embedding map, marked as good, and show them. */
async function keepSelected(ids: readonly string[]): Promise<void> {
  const members = ids.map((id) => ({ id, mark: "good" as const }));
  if (await createCollection(members, `Selected on the embedding map (${ids.length})`)) dialog.value = "collections";
}

async function retry(): Promise<void> {
  const again = phase.value === "failed" || replaced.value;
  await loadArchive();
  if (about.value && again) await search();
}
