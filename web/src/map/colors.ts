/** Colors of the map: one hue whose lightness encodes the rank, readable without color vision. */

export interface MapColors {
  readonly water: string;
  /** Land, where the map has no tiles, and all of a map too close for its outlines. */
  readonly land: string;
  readonly border: string;
  readonly grid: string;
  readonly ink: string;
  readonly halo: string;
  readonly box: string;
  readonly good: string;
  readonly bad: string;
  /** From the first rank to the last. */
  readonly ranks: readonly string[];
  /** Of records without the label that colors show. */
  readonly without: string;
}

export const LIGHT: MapColors = {
  water: "#dde5e8",
  land: "#f4f2ec",
  border: "#a9a698",
  grid: "#c3cbce",
  ink: "#17212b",
  halo: "#fbfaf6",
  box: "#14508c",
  good: "#0f7a5f",
  bad: "#6b5a8e",
  ranks: ["#7f2704", "#b63c02", "#dd5f13", "#f08a45", "#f3b98b"],
  without: "#7b868e",
};

export const DARK: MapColors = {
  water: "#0b1116",
  land: "#1a232a",
  border: "#46535c",
  grid: "#26323a",
  ink: "#f2f4f3",
  halo: "#0b1014",
  box: "#7db8f0",
  good: "#4cd3ac",
  bad: "#b9a3e8",
  ranks: ["#ffdcc2", "#ffb388", "#f98a55", "#c2643a", "#84462c"],
  without: "#75828a",
};

/** Return the color of a rank, counted from 0, of ``n`` hits. */
export function rankColor(rank: number, n: number, ranks: readonly string[]): string {
  const place = n > 1 ? (rank / (n - 1)) * (ranks.length - 1) : 0;
  const low = Math.min(Math.floor(place), ranks.length - 1);
  return mixed(ranks[low] as string, ranks[low + 1] ?? (ranks[low] as string), place - low);
}

/** Return the color a share of the way from one ``#rrggbb`` to another. */
export function mixed(from: string, to: string, share: number): string {
  const parts = [1, 3, 5].map((i) => {
    const a = Number.parseInt(from.slice(i, i + 2), 16);
    const b = Number.parseInt(to.slice(i, i + 2), 16);
    return Math.round(a + (b - a) * share)
      .toString(16)
      .padStart(2, "0");
  });
  return `#${parts.join("")}`;
}
