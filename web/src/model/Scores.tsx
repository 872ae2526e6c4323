import { useState } from "preact/hooks";
import { LabelErrors, WorstQueries } from "./Errors";
import { LabelBars } from "./LabelBars";
import { isShare, metricsOf, sayInterval, formatNumber, SPACES } from "./numbers";
import type { OwnScoresAnswer, SpaceScores } from "../types";

/** Scores measured on this archive: a switch between spaces, metrics with intervals, labels. */
export function Scores({ scores, training, onQuery }: { scores: OwnScoresAnswer; training: Record<string, number>; onQuery: (id: string) => void }) {
  const names = Object.keys(scores.spaces);
  const [chosen, setChosen] = useState(names[0] ?? "");
  const [more, setMore] = useState(false);
  const space = scores.spaces[chosen];
  if (!space) return null;
  return (
    <>
      <p class={scores.part === "test" ? "model-about" : "model-about model-caution"}>{scores.about}.</p>
      {names.length > 1 && (
        <div class="model-switch" role="group" aria-label="Searched space">
          {names.map((name) => (
            <button type="button" key={name} class="tool" aria-pressed={name === chosen} onClick={() => setChosen(name)}>
              {SPACES[name] ?? name}
            </button>
          ))}
        </div>
      )}
      <div class="model-scroll" tabIndex={0} role="region" aria-label="Scores">
        <table class="scores">
          <thead>
            <tr>
              <th scope="col">Metric</th>
              <th scope="col">Score</th>
              <th scope="col">95 % interval</th>
              <th scope="col">Chance</th>
              <th class="whisker-head" aria-hidden="true">
                <span>0</span>
                <span>1</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {metricsOf(space, more).map((name) => (
              <Metric key={name} name={name} space={space} />
            ))}
          </tbody>
        </table>
      </div>
      <button type="button" class="tool" aria-expanded={more} onClick={() => setMore(!more)}>
        {more ? "Main metrics only" : "All metrics"}
      </button>
      <details class="model-details">
        <summary>Protocol {space.protocol}: rules and definitions</summary>
        <ul>
          {space.rules.map((rule) => (
            <li key={rule}>{rule}</li>
          ))}
        </ul>
        <dl>
          {metricsOf(space, more).map((name) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{space.definitions[name]}</dd>
            </div>
          ))}
        </dl>
      </details>
      <h3>By label</h3>
      <LabelBars labels={space.per_label} training={training} />
      <WorstQueries scores={scores} onQuery={onQuery} />
      <LabelErrors scores={scores} />
    </>
  );
}

function Metric({ name, space }: { name: string; space: SpaceScores }) {
  const [value, chance, pair] = [space.metrics[name], space.chance[name], space.intervals[name]];
  const drawn = isShare(name, [value, chance, ...(pair ?? [])]);
  const [low, high] = [pair?.[0] ?? value ?? 0, pair?.[1] ?? value ?? 0];
  return (
    <tr>
      <th scope="row" title={space.definitions[name]}>
        {name}
      </th>
      <td class="number">{formatNumber(value)}</td>
      <td class="number">{sayInterval(pair)}</td>
      <td class="number">{formatNumber(chance)}</td>
      <td class="whisker-cell" aria-hidden="true">
        {drawn && value != null && (
          <span class="whisker">
            {chance != null && <b style={{ left: `${100 * chance}%` }} />}
            <i style={{ left: `${100 * low}%`, width: `${Math.max(0.4, 100 * (high - low))}%` }} />
            <em style={{ left: `${100 * value}%` }} />
          </span>
        )}
      </td>
    </tr>
  );
}
