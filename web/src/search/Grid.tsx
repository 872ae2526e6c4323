import { useEffect, useRef } from "preact/hooks";
import { about, before, collection, draft, focus, found, pointed, selection, showBefore, shownHits, shownMode, state } from "../store";
import { markHit, openHit, selectHit } from "./act";
import { Card } from "./Card";
import { labelsOf } from "./collection";
import { compare } from "./compare";
import { gridKey } from "./keys";
import { markOf } from "./marks";
import { askRecord } from "./run";
import { nearness } from "./why";

/** The results as a grid that arrow keys walk through; one of them takes the Tab key. */
export function Grid() {
  const list = useRef<HTMLUListElement>(null);
  const hits = shownHits.value;
  const mode = shownMode.value;
  const at = Math.min(focus.value, hits.length - 1);
  const old = before.value;
  const changes =
    old && !showBefore.value && found.value
      ? compare(
          old.hits.map((hit) => hit.id),
          found.value.hits.map((hit) => hit.id),
        )
      : null;
  const nBits = about.value?.n_bits ?? 0;

  // A hit that was opened elsewhere, such as on the map, comes into view.
  const open = state.value.open;
  useEffect(() => {
    const place = hits.findIndex((hit) => hit.id === open);
    if (place >= 0) list.current?.children[place]?.scrollIntoView({ block: "nearest" });
  }, [open]);

  // Pointing at a hit marks its place on the map, and the other way around; no card is drawn anew.
  useEffect(
    () =>
      pointed.subscribe((id) => {
        const place = id === null ? -1 : hits.findIndex((hit) => hit.id === id);
        for (const [i, card] of [...(list.current?.children ?? [])].entries()) card.toggleAttribute("data-pointed", i === place);
      }),
    [hits],
  );
  const onPoint = (event: Event) => {
    const card = event.target instanceof Element ? event.target.closest(".card") : null;
    const place = card && list.current ? [...list.current.children].indexOf(card) : -1;
    pointed.value = hits[place]?.id ?? null;
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const own = list.current;
    if (!own || !(event.target instanceof HTMLElement) || !event.target.classList.contains("card-image")) return;
    const action = gridKey(event, at, hits.length, columnsOf(own));
    const hit = hits[at];
    if (!action || !hit) return;
    event.preventDefault();
    switch (action.kind) {
      case "focus":
        focus.value = action.at;
        own.children[action.at]?.querySelector<HTMLElement>(".card-image")?.focus();
        return;
      case "open":
        return openHit(state.value.open === hit.id ? null : hit.id);
      case "select":
        return selectHit(hit.id, event.shiftKey);
      case "query":
        return askRecord(hit.id);
      default:
        return markHit(hit.id, action.kind);
    }
  };
  return (
    <ul
      ref={list}
      class="grid"
      aria-label={showBefore.value ? "Results before" : "Results"}
      onKeyDown={onKeyDown}
      onMouseOver={onPoint}
      onMouseLeave={() => (pointed.value = null)}
    >
      {hits.map((hit, place) => (
        <Card
          key={hit.id}
          hit={hit}
          at={place}
          mode={mode}
          mark={markOf(draft.value, hit.id)}
          open={open === hit.id}
          focused={place === at}
          selected={selection.value.has(hit.id)}
          given={labelsOf(collection.value, hit.id).join("; ")}
          was={changes ? (changes.moved.get(hit.id)?.from ?? 0) : null}
          describe={nearness(hit, mode, nBits)}
        />
      ))}
    </ul>
  );
}

/** Number of cards in the first row. */
function columnsOf(list: HTMLElement): number {
  const cards = [...list.children] as HTMLElement[];
  const top = cards[0]?.offsetTop;
  const next = cards.findIndex((card) => card.offsetTop !== top);
  return next < 0 ? Math.max(1, cards.length) : next;
}
