import type { ComponentChildren } from "preact";
import type { ArchiveAnswer } from "../types";
import { Card } from "./Card";
import { FlatMap } from "./FlatMap";
import "./model.css";
import { factsIn, formatNumber, testTable } from "./numbers";
import type { ModelProps } from "./props";
import { Scores } from "./Scores";
import type { ModelAnswer } from "../types";
import { useAnswer, type Loadable } from "./useAnswer";

/** The model of an archive: what it is, how good it is, what it sees, its card. */
export default function ModelPage({ api, about, dark, onQuery, onKeep }: ModelProps) {
  const key = `${about.name} ${about.version}`;
  const model = useAnswer((signal) => api.model(about.name, signal), key);
  const scores = useAnswer((signal) => api.modelScores(about.name, signal), key);
  const map = useAnswer((signal) => api.modelMap(about.name, signal), key);
  const training = model.state === "there" ? model.value.training_labels : {};
  return (
    <div class="model-page">
      <header class="model-head">
        <h1>Model of {about.name}</h1>
        <p>
          {about.records.toLocaleString("en")} images; embeddings of {about.dim} dimensions
          {about.n_bits > 0 && <> and codes of {about.n_bits} bits</>}.
        </p>
      </header>
      <section aria-labelledby="model-map">
        <h2 id="model-map">Embedding map</h2>
        <Wait request={map} what="Computing the map …">
          {(found) => (
            <>
              <p class="model-about">
                {found.ids.length === found.records ? "Every image is" : `${found.ids.length.toLocaleString("en")} of ${found.records.toLocaleString("en")} images, drawn at random, are each`}{" "}
                a point; points close together look similar to the model. Axes: the first two principal components of the
                embeddings, {percent(found.shares[0])} and {percent(found.shares[1])} of their variance. Colors and
                shapes show the {found.colored_by}. Hover over a point to see its image; click to search with it.
              </p>
              <FlatMap map={found} dark={dark} onQuery={onQuery} onKeep={about.collections ? onKeep : null} />
            </>
          )}
        </Wait>
      </section>
      <section aria-labelledby="model-scores">
        <h2 id="model-scores">Scores on this archive</h2>
        <Wait request={scores} what="Computing the scores; the first time takes a few seconds …">
          {(found) => <Scores scores={found} training={training} onQuery={onQuery} />}
        </Wait>
      </section>
      <section aria-labelledby="model-made">
        <h2 id="model-made">Training details</h2>
        <Wait request={model} what="Loading the model description …">
          {(found) => <Made model={found} />}
        </Wait>
      </section>
      <section aria-labelledby="model-archive">
        <h2 id="model-archive">The archive</h2>
        <Facts facts={archiveFacts(about)} />
      </section>
      {about.card && (
        <section aria-labelledby="model-card">
          <h2 id="model-card">Model card</h2>
          <Card text={about.card} />
        </section>
      )}
    </div>
  );
}

function Made({ model }: { model: ModelAnswer }) {
  const facts = [...factsIn(model.settings), ...factsIn(model.training)];
  if (!facts.length) return <p class="model-about">The archive stores no description of its model.</p>;
  const validation = Object.entries(model.validation);
  return (
    <>
      <Facts facts={facts} />
      {model.test && <TestTable test={model.test} />}
      {validation.length > 0 && (
        <details class="model-details">
          <summary>Validation scores</summary>
          <Facts facts={validation.map(([name, value]) => [name, formatNumber(value)])} />
        </details>
      )}
    </>
  );
}

function TestTable({ test }: { test: NonNullable<ModelAnswer["test"]> }) {
  const { metrics, rows } = testTable(test);
  return (
    <>
      <h3>Published scores</h3>
      <p class="model-about">{test.about}</p>
      <div class="model-scroll" tabIndex={0} role="region" aria-label="Published scores">
        <table class="scores">
          <thead>
            <tr>
              <th scope="col">Space</th>
              {metrics.map((metric) => (
                <th scope="col" key={metric}>
                  {metric}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map(([space, values]) => (
              <tr key={space}>
                <th scope="row">{space}</th>
                {values.map((value, i) => (
                  <td class="number" key={metrics[i]}>
                    {formatNumber(value)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Facts({ facts }: { facts: readonly (readonly [string, string])[] }) {
  return (
    <dl class="model-facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Wait<T>({ request, what, children }: { request: Loadable<T>; what: string; children: (value: T) => ComponentChildren }) {
  if (request.state === "there") return <>{children(request.value)}</>;
  if (request.state === "waiting")
    return (
      <p class="model-wait" role="status">
        {what}
      </p>
    );
  return (
    <p class="model-about" role="status">
      {request.why}{" "}
      {request.status !== 404 && (
        <button type="button" class="tool" onClick={request.retry}>
          Try again
        </button>
      )}
    </p>
  );
}

function archiveFacts(about: ArchiveAnswer): [string, string][] {
  const day = (text: string) => text.slice(0, 10);
  const facts: [string, string][] = [
    ["Images", about.records.toLocaleString("en")],
    ["Version", about.version.toLocaleString("en")],
    ["Created", day(about.created)],
    ["Updated", day(about.updated)],
    ["Written by", `LandCue ${about.landcue}`],
    ["Model", about.model ?? "not recorded"],
    ["Fingerprint", about.fingerprint.slice(0, 16)],
    ["Accepts image queries", about.encodes_images ? "yes" : "no"],
  ];
  if (about.label_names.length) facts.push(["Labels it predicts", about.label_names.join(", ")]);
  return facts;
}

function percent(share: number): string {
  return `${Math.round(100 * share)}\u00a0%`;
}
