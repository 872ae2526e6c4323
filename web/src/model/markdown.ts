/** The few things of Markdown that model cards hold, as plain values; everything else stays text. */

export interface Span {
  readonly text: string;
  readonly kind: "plain" | "code" | "bold";
}

export type Block =
  | { readonly kind: "heading"; readonly level: number; readonly spans: Span[] }
  | { readonly kind: "list"; readonly items: Span[][] }
  | { readonly kind: "table"; readonly head: Span[][]; readonly rows: Span[][][] }
  | { readonly kind: "code"; readonly text: string }
  | { readonly kind: "paragraph"; readonly spans: Span[] };

const LONGEST = 100_000;

/** Read a text, of which at most so many characters are taken. */
export function parseMarkdown(text: string): Block[] {
  const lines = text.slice(0, LONGEST).split(/\r?\n/);
  const blocks: Block[] = [];
  let at = 0;
  const takeWhile = (fits: (line: string) => boolean): string[] => {
    const from = at;
    while (at < lines.length && fits(lines[at] as string)) at++;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at] as string;
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (!line.trim()) {
      at++;
    } else if (heading) {
      at++;
      blocks.push({ kind: "heading", level: (heading[1] as string).length, spans: spansOf(heading[2] as string) });
    } else if (line.startsWith("```")) {
      at++;
      blocks.push({ kind: "code", text: takeWhile((one) => !one.startsWith("```")).join("\n") });
      at++;
    } else if (isItem(line)) {
      blocks.push({ kind: "list", items: takeWhile(isItem).map((one) => spansOf(one.replace(ITEM, ""))) });
    } else if (isRow(line) && isRule(lines[at + 1] ?? "")) {
      const [head, , ...rows] = takeWhile(isRow);
      blocks.push({ kind: "table", head: cells(head as string), rows: rows.map(cells) });
    } else {
      const first = at;
      const found = takeWhile((one) => at === first || (one.trim() !== "" && !isItem(one) && !/^(#{1,6}\s|```)/.test(one)));
      blocks.push({ kind: "paragraph", spans: spansOf(found.join(" ")) });
    }
  }
  return blocks;
}

/** Split a line into plain, `code` and **bold** parts. */
export function spansOf(line: string): Span[] {
  return line
    .trim()
    .split(/(`[^`]+`|\*\*[^*]+\*\*)/)
    .filter((part) => part !== "")
    .map((part): Span => {
      if (part.length > 2 && part.startsWith("`") && part.endsWith("`")) return { text: part.slice(1, -1), kind: "code" };
      if (part.length > 4 && part.startsWith("**")) return { text: part.slice(2, -2), kind: "bold" };
      return { text: part, kind: "plain" };
    });
}

const ITEM = /^\s*[-*]\s+/;

function isItem(line: string): boolean {
  return ITEM.test(line);
}

function isRow(line: string): boolean {
  return line.trimStart().startsWith("|");
}

function isRule(line: string): boolean {
  return isRow(line) && /^[\s|:-]+$/.test(line) && line.includes("-");
}

function cells(line: string): Span[][] {
  return line.trim().replace(/^\||\|$/g, "").split("|").map(spansOf);
}
