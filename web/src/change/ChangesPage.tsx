import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Icon } from "../icons";
import { lazy } from "../lazy";
import { useAnswer } from "../model/useAnswer";
import { ExportList } from "../search/ExportMenu";
import { BoxFilter, Values } from "../search/FilterPanel";
import { PolygonFilter } from "../search/PolygonFilter";
import { quoted } from "../search/request";
import { askRecord } from "../search/run";
import { count, sentence, shortId } from "../search/why";
import { Remote } from "../Remote";
import { Sheet } from "../Sheet";
import { ALPHA, NO_FILTERS, readDate, type Comparison, type Days } from "../state";
import { about, api, archiveName, ask, facets, go, labels, openDetail, state } from "../store";
import type { ChangeAnswer, ChangedPair } from "../types";
import { changeRequestOf, fieldOf, type Field } from "./comparison";
import type { TimelineProps } from "./props";
import "./change.css";

const Timeline = lazy<TimelineProps>(() => import("./Timeline"), "the dates");
const NONE: Comparison = { before: [null, null], after: [null, null], had: "", has: "", gained: [], lost: [], by: null, other: null, alpha: ALPHA };
const FIRST = 100;
const MOST = 1000;
const RATES = [0.01, 0.05, 0.2, 1];

/** Pairs of one place at two dates, the most unusual first. */
export default function ChangesPage() {
  const { compared, filters, archive } = state.value;
  const [most, setMost] = useState(FIRST);
  const request = compared && changeRequestOf(compared, filters, archive, most);
  const key = JSON.stringify(request);
  const answer = useAnswer(async (signal) => request && api.change(request, signal), key);
  const [open, setOpen] = useState(!compared);
  const asked = JSON.stringify([compared, filters, archive]);
  useEffect(() => setMost(FIRST), [asked]);
  const failed = answer.state === "failed" ? answer : null;
  const field = failed && compared ? fieldOf(failed.why, compared) : null;
  return (
    <div class="search-page changes-page">
      <div class="rail" data-open={open || field || undefined}>
        <button type="button" class="tool narrow-only rail-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
          <Icon name="filter" /> What to compare
        </button>
        <section class="filters" aria-label="What to compare">
          <Fields key={JSON.stringify(compared)} compared={compared ?? NONE} wrong={field} why={failed?.why ?? ""} onCompare={() => setOpen(false)} />
          <BoxFilter />
          <PolygonFilter />
          {filters.polygon && (
            <button type="button" class="link" onClick={() => ask({ filters: { ...filters, polygon: null } })}>
              Remove the polygon
            </button>
          )}
        </section>
      </div>
      <section class="stage results" aria-label="Changes" aria-busy={answer.state === "waiting"}>
        <header class="results-head">
          <div class="results-title">
            <h1 class="clip">{compared?.other ? `Changes from ${archiveName.value} to ${compared.other}` : `Changes in ${archiveName.value}`}</h1>
            {request && answer.state === "there" && answer.value && answer.value.matched > 0 && (
              <ExportList name={`changes-${archiveName.value}`} rows={answer.value.matched} load={(format) => api.exportedChange(request, format)} />
            )}
          </div>
        </header>
        {!request && <p class="note">Choose earlier and later dates. Places are ranked by how unusual their difference is among pairs of the same season, sensor and label.</p>}
        {request && answer.state === "waiting" && (
          <p class="note" role="status">
            Comparing …
          </p>
        )}
        {failed && (
          <p class="note" role={field ? undefined : "alert"}>
            {field ? "Nothing was compared." : sentence(failed.why)}{" "}
            {(failed.status === 0 || failed.status >= 500) && (
              <button type="button" class="tool" onClick={failed.retry}>
                Try again
              </button>
            )}
          </p>
        )}
        {answer.state === "there" && answer.value && <Ranked answer={answer.value} onMore={most < MOST ? () => setMost(MOST) : null} />}
      </section>
    </div>
  );
}

interface FieldsProps {
  compared: Comparison;
  /** The field that the server's message belongs to. */
  wrong: Field | null;
  why: string;
  onCompare: () => void;
}

function Fields({ compared, wrong, why, onCompare }: FieldsProps) {
  const [given, setGiven] = useState(compared);
  const archives = (about.value?.archives ?? []).filter((name) => name !== archiveName.value);
  const set = (patch: Partial<Comparison>) => setGiven({ ...given, ...patch });
  const says = (field: Field) => wrong === field && <Wrong field={field} why={why} />;
  const { by, other } = given;
  const predicted = about.value?.label_names ?? [];
  const later = useAnswer(async (signal) => (other ? Promise.all([api.labels(other, signal), api.facets(other, signal)]) : null), other ?? "");
  const [added, theirs] = later.state === "there" && later.value ? later.value : [[], facets.value];
  const named = [...new Map([...added, ...labels.value].map((one) => [one.name, one])).values()];
  return (
    <form
      class="changes-form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        onCompare();
        go({ compared: { ...given, had: given.had.trim(), has: given.has.trim() }, open: null });
      }}
    >
      <Range name="Before" value={given.before} known={facets.value?.datetime} wrong={wrong === "before"} onChange={(before) => set({ before })}>
        {says("before")}
      </Range>
      <Range name="After" value={given.after} known={theirs?.datetime} wrong={wrong === "after"} onChange={(after) => set({ after })}>
        {says("after")}
      </Range>
      {(archives.length > 0 || other) && (
        <div class="filter">
          <label for="change-other">Archive of the later dates</label>
          <select
            id="change-other"
            aria-invalid={wrong === "other"}
            aria-describedby={wrong === "other" ? "change-other-wrong" : undefined}
            value={other ?? ""}
            onChange={(event) => set({ other: event.currentTarget.value || null })}
          >
            <option value="">{archiveName.value}</option>
            {[...new Set([...archives, ...(other ? [other] : [])])].map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
          {says("other")}
        </div>
      )}
      <datalist id="change-labels">
        {named.map((one) => (
          <option key={one.name} value={quoted(one.name)} />
        ))}
      </datalist>
      {(["had", "has"] as const).map((field) => (
        <div class="filter" key={field}>
          <label for={`change-${field}`}>{field === "had" ? "Labels before" : "Labels after"}</label>
          <input
            id={`change-${field}`}
            type="text"
            class="mono"
            list="change-labels"
            autocomplete="off"
            spellcheck={false}
            maxLength={2000}
            placeholder={field === "had" ? "any, e.g. field" : "any, e.g. not field"}
            aria-invalid={wrong === field}
            aria-describedby={wrong === field ? `change-${field}-wrong` : undefined}
            value={given[field]}
            onInput={(event) => set({ [field]: event.currentTarget.value })}
          />
          {says(field)}
        </div>
      ))}
      <Values name="Labels lost" values={named} chosen={given.lost} onChange={(lost) => set({ lost })} />
      <Values name="Labels gained" values={named} chosen={given.gained} onChange={(gained) => set({ gained })} />
      {(predicted.length > 0 || by) && (
        <div class="filter">
          <label for="change-by">Rank by</label>
          <select
            id="change-by"
            aria-invalid={wrong === "by"}
            aria-describedby={wrong === "by" ? "change-by-wrong" : undefined}
            value={by ?? ""}
            onChange={(event) => set({ by: event.currentTarget.value || null })}
          >
            <option value="">any change</option>
            {[...new Set([...predicted, ...(by ? [by] : [])])].map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
          {says("by")}
        </div>
      )}
      <div class="filter">
        <label for="change-alpha">False alarm rate</label>
        <select id="change-alpha" value={String(given.alpha)} onChange={(event) => set({ alpha: Number(event.currentTarget.value) })}>
          {[...new Set([...RATES, given.alpha])].sort((a, b) => a - b).map((rate) => (
            <option key={rate} value={String(rate)}>
              {rate === 1 ? "show all pairs" : `${Number((100 * rate).toPrecision(6))} %`}
            </option>
          ))}
        </select>
      </div>
      <button type="submit" class="primary">
        Compare
      </button>
    </form>
  );
}

interface RangeProps {
  name: string;
  value: Days;
  /** First and last time of the archive. */
  known: readonly string[] | null | undefined;
  wrong: boolean;
  onChange: (days: Days) => void;
  children: ComponentChildren;
}

function Range({ name, value: [from, until], known, wrong, onChange, children }: RangeProps) {
  const says = wrong ? `change-${name.toLowerCase()}-wrong` : undefined;
  return (
    <fieldset class="filter">
      <legend>{name}</legend>
      <div class="pair">
        <input
          type="date"
          aria-label={`${name}: from`}
          aria-invalid={wrong}
          aria-describedby={says}
          value={from ?? ""}
          onChange={(event) => onChange([readDate(event.currentTarget.value), until])}
        />
        <span aria-hidden="true">–</span>
        <input
          type="date"
          aria-label={`${name}: until`}
          aria-invalid={wrong}
          aria-describedby={says}
          value={until ?? ""}
          onChange={(event) => onChange([from, readDate(event.currentTarget.value)])}
        />
      </div>
      {children}
      {known && <p class="small faint">{`${known.map((time) => time.slice(0, 10)).join(" – ")} in this archive`}</p>}
    </fieldset>
  );
}

function Wrong({ field, why }: { field: Field; why: string }) {
  return (
    <p class="small wrong" role="alert" id={`change-${field}-wrong`}>
      {sentence(why)}
    </p>
  );
}

function Ranked({ answer, onMore }: { answer: ChangeAnswer; onMore: (() => void) | null }) {
  const { changes, matched } = answer;
  const open = changes.find((one) => one.after === state.value.open);
  const two = answer.other !== answer.archive;
  return (
    <>
      <p class="changes-about" role="status">
        <strong>{`${count(matched)} ${answer.alpha === 1 ? "shown" : matched === 1 ? "change" : "changes"}`}</strong>
        {` of ${count(answer.pairs)} pairs`}
        {answer.alpha < 1 && `; ${count(answer.flagged)} ${answer.flagged === 1 ? "has" : "have"} a p-value of at most ${answer.alpha}`}
        {answer.notes.map((note) => (
          <span class="small faint" key={note}>
            {sentence(note)}
          </span>
        ))}
      </p>
      <ol class="changes" aria-label="Ranked changes">
        {changes.map((pair, at) => (
          <li key={`${pair.before} ${pair.after}`}>
            <Pair pair={pair} rank={at + 1} archives={{ before: answer.archive, after: answer.other }} />
          </li>
        ))}
      </ol>
      {onMore && matched > changes.length && (
        <button type="button" class="tool changes-more" onClick={onMore}>
          {`Show ${count(Math.min(matched, MOST))}`}
        </button>
      )}
      {open && (
        <Sheet title={shortId(open.after)} onClose={() => openDetail(null)}>
          <Timeline api={api} id={open.after} archive={answer.other} other={{ id: open.before, archive: answer.archive }} />
          <div class="row">
            {([["before", "earlier"], ["after", "later"]] as const).map(([side, name]) => (
              <button key={side} type="button" class="tool" onClick={() => askRecord(open[side], side === "after" && two ? { archive: answer.other, filters: NO_FILTERS } : {})}>
                <Icon name="search" /> {`Search with the ${name} one`}
              </button>
            ))}
          </div>
        </Sheet>
      )}
    </>
  );
}

function Pair({ pair, rank, archives }: { pair: ChangedPair; rank: number; archives: { before: string; after: string } }) {
  const { by } = state.value.compared ?? NONE;
  return (
    <button type="button" class="changed" onClick={() => openDetail(pair.after)}>
      <span class="mono faint">{rank}</span>
      {(["before", "after"] as const).map((side) => (
        <span class="changed-side" key={side}>
          <Remote src={api.thumbnailUrl(pair[side], archives[side])} alt="" />
          <span class="mono small">{pair[`${side}_datetime`].slice(0, 10)}</span>
        </span>
      ))}
      <span class="changed-facts">
        <span class="clip" title={pair.after}>
          {shortId(pair.after)}
        </span>
        <span class="mono small" title="p: share of compared pairs that differ at least as much. z: robust standard deviations above the median difference.">
          {`p ${probability(pair.p)}  z ${pair.z.toFixed(1)}`}
        </span>
        {pair.rise !== null && by && <span class="small">{`${by} ${pair.rise < 0 ? "−" : "+"}${Math.abs(pair.rise).toFixed(2)}`}</span>}
        <span class="changed-labels small">
          {pair.lost.map((name) => (
            <span key={name} class="lost">{`− ${name}`}</span>
          ))}
          {pair.gained.map((name) => (
            <span key={name} class="gained">{`+ ${name}`}</span>
          ))}
        </span>
        <span class="small faint">{`compared with ${pair.group === "all" ? "all pairs" : pair.group}`}</span>
      </span>
    </button>
  );
}

function probability(p: number): string {
  return p < 0.001 ? p.toExponential(1) : p.toFixed(3);
}
