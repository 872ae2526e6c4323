/** Finds the labels that words mean, for models that take no text. */

export interface Meant {
  readonly label: string;
  /** Whether the word is the label's own, another word for it, or a similar spelling. */
  readonly how: "same" | "related" | "similar";
}

/** Words that are used for one another; labels of a group are related to its other words. */
const GROUPS: readonly (readonly string[])[] = [
  ["airfield", "airport", "aerodrome", "runway", "airplane"],
  ["plane", "aircraft", "jet", "airplane"],
  ["marina", "port", "harbor", "harbour", "dock", "ship", "boat"],
  ["boat", "vessel", "yacht", "ship", "ferry"],
  ["pier", "jetty", "quay", "wharf", "dock"],
  ["wood", "woodland", "forest", "tree", "grove"],
  ["road", "street", "highway", "freeway", "motorway", "asphalt", "tarmac", "pavement", "overpass", "intersection"],
  ["house", "home", "building", "village", "town", "city", "residential", "settlement", "suburb"],
  ["trailer", "caravan", "mobile"],
  ["car", "vehicle", "automobile", "truck", "parking", "parkinglot"],
  ["lake", "river", "pond", "stream", "canal", "water"],
  ["ocean", "sea", "water"],
  ["coast", "shore", "beach", "sand", "sea"],
  ["lawn", "meadow", "pasture", "grass", "grassland"],
  ["farm", "farmland", "crop", "agriculture", "agricultural", "field"],
  ["dirt", "earth", "desert", "soil", "sand"],
  ["tennis", "basketball", "court", "tenniscourt", "playground"],
  ["reservoir", "silo", "tank", "storagetank"],
  ["shrub", "bush", "scrub", "chaparral"],
  ["rail", "railway", "train", "station"],
];

/** Return the labels that a text means: of each word its own labels, or related ones, or similarly spelled ones. */
export function meant(text: string, labels: readonly string[]): Meant[] {
  const found = new Map<string, Meant>();
  const known = labels.map((label) => ({ label, parts: partsOf(label) }));
  const whole = partsOf(text);
  const exact = known.filter(({ parts }) => parts.join("") === whole.join(""));
  if (exact.length) return exact.map(({ label }) => ({ label, how: "same" }));
  for (const word of whole) {
    const group = new Set(GROUPS.filter((words) => words.includes(word)).flat());
    const ways: readonly (readonly [Meant["how"], (part: string) => boolean])[] = [
      ["same", (part) => part === word],
      ["related", (part) => group.has(part)],
      ["similar", (part) => similar(part, word)],
    ];
    for (const [how, fits] of ways) {
      const hits = known.filter(({ parts }) => parts.some(fits));
      for (const { label } of hits) if (!found.has(label)) found.set(label, { label, how });
      if (hits.length) break;
    }
  }
  return [...found.values()];
}

const SMALL = new Set(["a", "an", "the", "of", "with", "and", "or", "in", "on", "near", "many", "some", "few", "by", "to"]);

function partsOf(text: string): string[] {
  const words = text.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter((word) => word && !SMALL.has(word));
  return words.map((word) => (word.length > 3 && word.endsWith("s") && !word.endsWith("ss") ? word.slice(0, -1) : word));
}

function similar(part: string, word: string): boolean {
  const short = Math.min(part.length, word.length);
  if (short < 4) return false;
  return part.startsWith(word) || word.startsWith(part) || distance(part, word) <= (short < 8 ? 1 : 2);
}

/** Number of letters to insert, drop or change between two words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + Number(a[i - 1] !== b[j - 1])));
    row = next;
  }
  return row[b.length]!;
}
