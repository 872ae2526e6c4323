import { Icon } from "./icons";
import { NO_FILTERS, START, toQuery } from "./state";
import { about, dialog, facets, go, state } from "./store";
import { NO_MARKS } from "./search/marks";
import { badge, watches } from "./search/watches";
import { count } from "./search/why";
import { dark, switchTheme } from "./theme";

const PAGES = [
  ["search", "Search"],
  ["changes", "Changes"],
  ["model", "Model"],
] as const;

/** The name, the archive, the pages, and what concerns all of them. */
export function Header() {
  const archive = about.value;
  const { page } = state.value;
  const start = { ...START, archive: state.value.archive };
  return (
    <header class="top">
      <a
        class="brand"
        href="./"
        aria-label="LandCue, start"
        onClick={(event) => {
          event.preventDefault();
          go(start);
        }}
      >
        <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true" focusable="false">
          <path d="M3 20c5-6 9 1 13-4s6-7 13-5M3 26c6-5 10 1 15-3s6-5 11-4" fill="none" stroke="currentColor" stroke-width="1.7" />
          <circle cx="17" cy="11" r="4.6" fill="none" stroke="var(--accent)" stroke-width="2.4" />
        </svg>
        <span class="wide-only">LandCue</span>
      </a>
      {archive && (
        <label class="archive-pick">
          <span class="hidden">Archive</span>
          {archive.archives.length > 1 ? (
            <select
              aria-label="Archive"
              title={archive.name}
              value={archive.name}
              onChange={(event) => {
                const name = event.currentTarget.value;
                go({ ...start, page, archive: name, filters: NO_FILTERS, beside: null, ...NO_MARKS });
              }}
            >
              {archive.archives.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          ) : (
            <span class="archive-name clip">{archive.name}</span>
          )}
          <span class="small faint wide-only">{`${count(archive.records)} records`}</span>
        </label>
      )}
      <nav class="tabs" aria-label="Pages">
        {PAGES.filter(([name]) => name !== "changes" || (facets.value?.bbox && facets.value.datetime) || page === name).map(([name, title]) => (
          <a
            key={name}
            href={`./${toQuery({ ...state.value, page: name, open: null })}`}
            aria-current={page === name ? "page" : undefined}
            onClick={(event) => {
              event.preventDefault();
              go({ page: name, open: null });
            }}
          >
            {title}
          </a>
        ))}
      </nav>
      <div class="row top-tools">
        {archive?.collections && (
          <button type="button" class="quiet" aria-label="Collections" title="Collections  c" onClick={() => (dialog.value = "collections")}>
            <Icon name="pile" />
          </button>
        )}
        {watches.value && (
          <button
            type="button"
            class="quiet belled"
            aria-label={badge.value ? `Saved searches, ${badge.value} new` : "Saved searches"}
            title="Saved searches  w"
            onClick={() => (dialog.value = "watches")}
          >
            <Icon name="bell" />
            {badge.value && <span class="badge" aria-hidden="true">{badge.value}</span>}
          </button>
        )}
        <button type="button" class="quiet" aria-label="History" title="History  h" onClick={() => (dialog.value = "past")}>
          <Icon name="clock" />
        </button>
        <button type="button" class="quiet" aria-label={dark.value ? "Light colors" : "Dark colors"} title={dark.value ? "Light" : "Dark"} onClick={switchTheme}>
          <Icon name={dark.value ? "sun" : "moon"} />
        </button>
        <button type="button" class="quiet" aria-label="Keyboard shortcuts and help" title="Help  ?" onClick={() => (dialog.value = "help")}>
          <Icon name="help" />
        </button>
      </div>
    </header>
  );
}
