// @vitest-environment happy-dom
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Api } from "../src/api";
import HeatOverlay from "../src/heat/HeatOverlay";
import ModelPage from "../src/model/ModelPage";
import type { ArchiveAnswer, OwnScoresAnswer, SpaceScores } from "../src/types";

const ABOUT: ArchiveAnswer = {
  name: "places",
  records: 3,
  version: 2,
  created: "2026-01-02T03:04:05Z",
  updated: "2026-01-03T03:04:05Z",
  landcue: "0.1.0",
  fingerprint: "0123456789abcdef0123",
  dim: 8,
  n_bits: 0,
  label_names: ["water"],
  metric: "cosine",
  model: null,
  encodes_images: true,
  regions: true,
  card: '# Card\n\n<img src=x onerror="alert(1)"> <script>alert(2)</script>',
  scores: {},
  archives: ["places"],
  stale: false,
  basemap: null,
  basemap_credit: null,
};

const SPACE: SpaceScores = {
  protocol: "ml-retrieval-v1",
  protocol_fingerprint: "abc",
  rules: ["a query does not find itself"],
  counts: { n_query: 3 },
  metrics: { mAP: 0.75, "P@1": 1, "WAP@100": 2.5 },
  chance: { mAP: 0.25, "P@1": 0.5, "WAP@100": 1 },
  intervals: { mAP: [0.7, 0.8], "P@1": [null, null], "WAP@100": [2, 3] },
  bands: {},
  per_label: {
    water: { mAP: 0.5, chance: 0.1, n_query: 2, n_gallery: 2, third: "rare" },
    trees: { mAP: 0.9, chance: 0.2, n_query: 1, n_gallery: 9, third: "frequent" },
  },
  macro: {},
  definitions: { mAP: "mean of AP" },
};

const SCORES: OwnScoresAnswer = {
  archive: "places",
  part: "all",
  annotated: 3,
  taken: 3,
  about: "3 of 3 annotated records of this archive, which may include images that the model was trained on",
  spaces: { embedding: SPACE, code: { ...SPACE, metrics: { mAP: 0.125 } } },
};

const MAP = {
  archive: "places",
  records: 3,
  shares: [0.5, 0.25],
  colored_by: "group",
  kinds: ["port", "farm"],
  ids: ["a.png", "b.png", "c.png"],
  x: [0, 1, 2],
  y: [0, 1, 0],
  kind: [0, 0, 1],
};

const MODEL = {
  archive: "places",
  fingerprint: "0123",
  settings: { backbone: "resnet18", dim: 8 },
  training: { dataset: "ucmerced" },
  training_images: 10,
  training_labels: { water: 4 },
  validation: {},
  test: { about: "never seen", spaces: { embedding: { mAP: 0.625 } } },
  regions: true,
};

function apiOf(answers: Record<string, unknown>) {
  const send: typeof fetch = async (url) => {
    const path = String(url).split("?")[0] as string;
    const found = answers[path];
    if (typeof found === "string") return Response.json({ detail: found }, { status: path.endsWith("map") ? 404 : 503 });
    return Response.json(found);
  };
  return new Api({ get: () => "", set: () => undefined }, "", send);
}

const holder = document.createElement("div");
document.body.append(holder);
afterEach(() => render(null, holder));

async function show(element: preact.ComponentChild) {
  await act(() => render(element, holder));
  await act(() => new Promise((done) => setTimeout(done, 20)));
}

function page(answers: Record<string, unknown>, onQuery = vi.fn()) {
  return <ModelPage api={apiOf(answers)} about={ABOUT} labels={[]} dark={false} onQuery={onQuery} onKeep={() => undefined} />;
}

const ALL = { "/v1/model": MODEL, "/v1/model/scores": SCORES, "/v1/model/map": MAP };

describe("the Model page", () => {
  it("shows scores with intervals, labels in order, and what may have been trained on", async () => {
    await show(page(ALL));
    const rows = [...holder.querySelectorAll(".scores tbody tr")].map((row) => row.textContent);
    expect(rows[0]).toContain("mAP0.7500.700 to 0.8000.250");
    expect(holder.querySelector(".model-caution")?.textContent).toContain("may include images");
    const labels = [...holder.querySelectorAll(".bars tbody th")].map((cell) => cell.textContent);
    expect(labels).toEqual(["trees", "water"]);
    expect(holder.querySelector(".bars tbody")?.textContent).toContain("frequent");
    expect(holder.textContent).toContain("0.625");
    expect(holder.textContent).toContain("resnet18");
  });

  it("switches space and order", async () => {
    await show(page(ALL));
    const button = (text: string) =>
      [...holder.querySelectorAll("button")].find((one) => one.textContent === text) as HTMLButtonElement;
    await act(() => button("Hash code").click());
    expect(holder.querySelector(".scores tbody tr")?.textContent).toContain("0.125");
    await act(() => button("Rarest first").click());
    expect(holder.querySelector(".bars tbody th")?.textContent).toBe("water");
  });

  it("shows a card as text, whatever it holds", async () => {
    await show(page(ALL));
    expect(holder.querySelector(".model-card h3")?.textContent).toBe("Card");
    expect(holder.querySelector(".model-card")?.textContent).toContain("<script>alert(2)</script>");
    expect(holder.querySelector(".model-card img, .model-card script")).toBeNull();
  });

  it("says why a part is missing, and offers to try again only where that helps", async () => {
    const why = "Too few records for a map.";
    await show(page({ ...ALL, "/v1/model/map": why, "/v1/model/scores": "the service is closing" }));
    expect(holder.textContent).toContain(why);
    expect(holder.textContent).toContain("The service is closing.");
    const again = [...holder.querySelectorAll("button")].filter((one) => one.textContent === "Try again");
    expect(again).toHaveLength(1);
  });

  it("goes over the map with arrow keys and searches with Enter", async () => {
    const onQuery = vi.fn();
    await show(page(ALL, onQuery));
    const canvas = holder.querySelector("canvas") as HTMLCanvasElement;
    const press = (key: string) => act(() => void canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })));
    await press("ArrowRight");
    await press("ArrowRight");
    await press("Enter");
    expect(onQuery).toHaveBeenCalledWith("c.png");
  });
});

describe("the overlay of similar regions", () => {
  const answer = {
    archive: "places",
    id: "hit.png",
    similarity: 0.5,
    record: { parts: [[0, 2], [0, 0]], cosines: [[0, 1], [0, 0]] },
    query: { parts: [[0, 0], [1, 0]], cosines: [[0, 0], [1, 0]] },
  };
  const overlay = (side: "query" | "hit", id: string, found: unknown) => (
    <HeatOverlay api={apiOf({ [`/v1/records/${id}/regions`]: found })} archive="places" query={{ id: "q" }} id={id} side={side} />
  );

  it("tells where, and has its legend beside the hit alone", async () => {
    await show(overlay("hit", "hit.png", answer));
    expect(holder.querySelector("canvas")?.getAttribute("aria-label")).toContain("the top right");
    expect(holder.querySelector(".heat-legend")?.textContent).toBe("0.002.00");
    await show(overlay("query", "hit.png", answer));
    expect(holder.querySelector("canvas")?.getAttribute("aria-label")).toContain("the bottom left");
    expect(holder.querySelector(".heat-legend")).toBeNull();
  });

  it("says why there is none", async () => {
    await show(overlay("hit", "other.png", "this archive holds an exported one"));
    expect(holder.querySelector("canvas")).toBeNull();
    expect(holder.textContent).toContain("exported");
  });
});
