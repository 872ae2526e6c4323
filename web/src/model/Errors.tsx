import { useState } from "preact/hooks";
import { Sharp } from "../Sharp";
import { useFirst } from "./LabelBars";
import type { OwnScoresAnswer } from "../types";

const MOST_INSTEAD = 3;

/** The queries of a label that find its other records worst. */
export function WorstQueries({ scores, onQuery }: { scores: OwnScoresAnswer; onQuery: (id: string) => void }) {
  const worst = scores.worst ?? {};
  const names = Object.keys(worst);
  const mean = (name: string) => (worst[name] ?? []).reduce((sum, one) => sum + one.score, 0) / (worst[name]?.length || 1);
  // The label with the worst queries comes first.
  names.sort((a, b) => mean(a) - mean(b));
  const [chosen, setChosen] = useState(names[0] ?? "");
  if (!names.length) return null;
  return (
    <>
      <h3>Worst queries</h3>
      <label class="model-choice">
        Label
        <select aria-label="Label of the worst queries" value={chosen} onChange={(event) => setChosen(event.currentTarget.value)}>
          {names.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <p class="model-about">
        Images with this label whose look-alikes carry it least often, by average precision of the embedding search. Click to search with one.
      </p>
      <ul class="worst" aria-label={`Worst queries of ${chosen}`}>
        {(worst[chosen] ?? []).map(({ id, score }) => (
          <li key={id}>
            <button type="button" class="example" title={id} aria-label={`${id}, average precision ${score.toFixed(2)}`} onClick={() => onQuery(id)}>
              <Sharp id={id} archive={scores.archive} />
              <span class="mono">{score.toFixed(2)}</span>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

/** What the model predicts in place of the annotated labels. */
export function LabelErrors({ scores }: { scores: OwnScoresAnswer }) {
  const found = scores.label_errors;
  const [labels, button] = useFirst(found?.labels ?? []);
  if (!found?.labels.length) return null;
  const share = (n: number, of: number) => (of ? `${Math.round((100 * n) / of)} %` : "–");
  return (
    <>
      <h3>Predicted labels against annotations</h3>
      <p class="model-about">
        {scores.taken.toLocaleString("en")} annotated records. The last column counts records annotated with the label for which the model
        predicts another label instead.
      </p>
      <div class="model-scroll" tabIndex={0} role="region" aria-label="Predicted labels against annotations">
        <table class="scores errors">
          <thead>
            <tr>
              <th scope="col">Label</th>
              <th scope="col">Annotated</th>
              <th scope="col">Predicted</th>
              <th scope="col">Precision</th>
              <th scope="col">Recall</th>
              <th scope="col">Predicted instead</th>
            </tr>
          </thead>
          <tbody>
            {labels.map((name, i) => {
              const others = (found.instead[i] ?? [])
                .map((n, j): [number, string] => [n, found.labels[j] as string])
                .filter(([n]) => n > 0)
                .sort((a, b) => b[0] - a[0]);
              return (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  <td class="number">{found.annotated[i]}</td>
                  <td class="number">{found.predicted[i]}</td>
                  <td class="number">{share(found.both[i] as number, found.predicted[i] as number)}</td>
                  <td class="number">{share(found.both[i] as number, found.annotated[i] as number)}</td>
                  <td>{others.slice(0, MOST_INSTEAD).map(([n, other]) => `${other} ${n}`).join(", ") || "–"}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {button}
    </>
  );
}
