import { about } from "../store";
import type { Hit } from "../types";
import { labelBits, sharedOf } from "./why";

interface Props {
  hit: Hit;
  mode: string;
  /** Labels the model predicted; null where they are not known yet. */
  hitPredicted: readonly string[] | null;
  queryPredicted: readonly string[] | null;
}

/** Why a hit was found: labels in common, and the label cue bit by bit. */
export function Reasons({ hit, mode, hitPredicted, queryPredicted }: Props) {
  const archive = about.value;
  const bits =
    archive && hitPredicted && queryPredicted ? labelBits(archive.label_names, queryPredicted, hitPredicted) : null;
  const nBits = archive?.n_bits ?? 0;
  return (
    <section class="why" aria-label="Why this result">
      <h3>Why</h3>
      <p>
        {hit.shared.length ? (
          <>
            Shares{" "}
            {hit.shared.map((label, at) => (
              <span key={label}>
                {at > 0 && ", "}
                <em>{label}</em>
              </span>
            ))}
            {` (${hit.annotated ? "annotated" : "predicted"}).`}
          </>
        ) : (
          "Shares no label with the query; similar in appearance only."
        )}
        {hit.why &&
          ` Score ${hit.score.toFixed(3)}: ${hit.why.embedding.toFixed(3)} from the embedding, ${hit.why.labels.toFixed(3)} from the predicted labels.`}
        {mode === "code" && nBits > 0 && ` ${nBits - hit.distance} of ${nBits} bits of the code agree.`}
      </p>
      {bits && bits.total > 0 && (
        <>
          <p class="small">
            <strong>Label cue.</strong> {sharedOf(bits) ? `${sharedOf(bits)} ${bits.both.length === 1 ? "is" : "are"} also predicted for this result.` : "The model predicts no label for the query."}
          </p>
          <div class="bits" aria-hidden="true">
            {archive?.label_names.map((name) => (
              <i key={name} title={name} data-bit={stateOf(name, bits)} />
            ))}
          </div>
          <dl class="bit-lists">
            <BitList name="Both" labels={bits.both} kind="both" />
            <BitList name="Query only" labels={bits.query} kind="query" />
            <BitList name="Result only" labels={bits.hit} kind="hit" />
          </dl>
        </>
      )}
    </section>
  );
}

function BitList({ name, labels, kind }: { name: string; labels: readonly string[]; kind: string }) {
  if (!labels.length) return null;
  return (
    <div>
      <dt>
        <i data-bit={kind} /> {name}
      </dt>
      <dd>{labels.join(", ")}</dd>
    </div>
  );
}

function stateOf(name: string, bits: ReturnType<typeof labelBits>): string {
  if (bits.both.includes(name)) return "both";
  if (bits.query.includes(name)) return "query";
  return bits.hit.includes(name) ? "hit" : "none";
}
