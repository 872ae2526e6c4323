import { useState } from "preact/hooks";
import { Icon } from "../icons";
import { lazy } from "../lazy";
import type { MapProps } from "../map/props";
import type { Box } from "../names";
import { about, ask, dialog, draft, facets, labels, shownHits, shownMode, state } from "../store";
import { dark } from "../theme";
import { openHit } from "./act";
import { Cropper } from "./Cropper";
import { Detail } from "./Detail";
import { FilterPanel } from "./FilterPanel";
import { Landing } from "./Landing";
import { MarksBar } from "./MarksBar";
import { QueryCard } from "./QueryCard";
import { hasExample, isBrowsing, isSearch, searchKey } from "./request";
import { askRecord } from "./run";
import { surveyPlaces } from "./survey";
import { EmptyArchive, Results } from "./Results";

const MapPane = lazy<MapProps>(() => import("../map/MapPane"), "the map");

/** The search page: query and filters, results, map, details. */
export function SearchPage() {
  const [filtersOpen, setFiltersOpen] = useState(false);
  const current = state.value;
  const archive = about.value;
  if (!archive) return null;
  if (!archive.records) return <EmptyArchive />;
  const searching = isSearch(current) || isBrowsing(current);
  const hits = shownHits.value;
  const at = hits.findIndex((hit) => hit.id === current.open);
  const hit = hits[at];
  const view = searching ? current.view : "grid";
  const mapped = facets.value?.bbox && view !== "grid";
  return (
    <div class="search-page" data-view={mapped ? view : "grid"} data-detail={hit ? true : undefined}>
      <div class="rail" data-open={filtersOpen || undefined}>
        {searching && <QueryCard />}
        <button
          type="button"
          class="tool narrow-only rail-toggle"
          aria-expanded={filtersOpen}
          onClick={() => setFiltersOpen(!filtersOpen)}
        >
          <Icon name="filter" /> Filters
        </button>
        <FilterPanel />
      </div>
      <div class="stage">
        {searching ? <Results /> : <Landing />}
        {searching && <MarksBar />}
      </div>
      {mapped && (
        <div class="map-pane">
          <MapPane
            hits={hits}
            mode={shownMode.value}
            selected={current.open}
            onSelect={openHit}
            box={current.filters.box}
            onBox={(box) => ask({ filters: { ...current.filters, box } })}
            polygon={current.filters.polygon}
            onPolygon={(polygon) => ask({ filters: { ...current.filters, polygon } })}
            survey={surveyPlaces}
            searchKey={searchKey({ ...current, k: 1, collapse: false })}
            everything={shownMode.value !== "suggest" && (!hasExample(current) || current.least !== null || current.percentile !== null)}
            extent={(facets.value?.bbox ?? null) as Box | null}
            labels={labels.value.map((label) => label.name)}
            onQuery={askRecord}
            basemap={archive.basemap ?? null}
            positives={draft.value.positives}
            negatives={draft.value.negatives}
            dark={dark.value}
          />
        </div>
      )}
      {hit && <Detail key={hit.id} hit={hit} at={at} />}
      {dialog.value === "crop" && <Cropper />}
    </div>
  );
}
