import { parseMarkdown, type Block, type Span } from "./markdown";

/** A model card. Its text becomes elements one by one; nothing in it is taken as HTML. */
export function Card({ text }: { text: string }) {
  return (
    <div class="model-card">
      {parseMarkdown(text).map((block, i) => (
        <Part key={i} block={block} />
      ))}
    </div>
  );
}

function Part({ block }: { block: Block }) {
  switch (block.kind) {
    case "heading": {
      const Level = block.level === 1 ? "h3" : block.level === 2 ? "h4" : "h5";
      return (
        <Level>
          <Spans spans={block.spans} />
        </Level>
      );
    }
    case "list":
      return (
        <ul>
          {block.items.map((spans, i) => (
            <li key={i}>
              <Spans spans={spans} />
            </li>
          ))}
        </ul>
      );
    case "table":
      return (
        <div class="model-scroll" tabIndex={0} role="region" aria-label="Table of the card">
          <table>
            <thead>
              <tr>
                {block.head.map((spans, i) => (
                  <th key={i} scope="col">
                    <Spans spans={spans} />
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {block.rows.map((row, i) => (
                <tr key={i}>
                  {row.map((spans, j) => (
                    <td key={j}>
                      <Spans spans={spans} />
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    case "code":
      return <pre>{block.text}</pre>;
    default:
      return (
        <p>
          <Spans spans={block.spans} />
        </p>
      );
  }
}

function Spans({ spans }: { spans: readonly Span[] }) {
  return (
    <>
      {spans.map((span, i) =>
        span.kind === "code" ? (
          <code key={i}>{span.text}</code>
        ) : span.kind === "bold" ? (
          <b key={i}>{span.text}</b>
        ) : (
          span.text
        ),
      )}
    </>
  );
}
