/** Keys that work anywhere on the page, but where text is typed. */

import { focusGrid, openHit } from "./search/act";
import { isTyping } from "./search/keys";
import { refine } from "./search/run";
import { watches } from "./search/watches";
import type { View } from "./state";
import { about, before, dialog, facets, go, showBefore, state } from "./store";

const NEXT_VIEW: Record<View, View> = { grid: "both", both: "map", map: "grid" };

/** Listen from now on. */
export function listen(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (dialog.value || isTyping(event.target)) return;
    if (act(event.key)) event.preventDefault();
  });
}

function act(key: string): boolean {
  switch (key) {
    case "?":
      dialog.value = "help";
      return true;
    case "h":
      dialog.value = "past";
      return true;
    case "c":
      if (about.value?.collections) dialog.value = "collections";
      return true;
    case "w":
      if (watches.value) dialog.value = "watches";
      return true;
    case "r":
      refine();
      return true;
    case "b":
      if (before.value) showBefore.value = !showBefore.value;
      return true;
    case "m":
      if (facets.value?.bbox) go({ view: NEXT_VIEW[state.value.view] }, true);
      return true;
    case "/":
      document.getElementById("label-search")?.focus();
      return true;
    case "Escape":
      if (state.value.open === null) return false;
      openHit(null);
      focusGrid();
      return true;
    default:
      return false;
  }
}
