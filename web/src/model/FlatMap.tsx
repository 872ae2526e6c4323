import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Sharp } from "../Sharp";
import { fitted, kindColor, kindShape, moved, nearest, onCanvas, PALETTE, SHAPES, step, within, zoomed, type Size, type Spot, type View } from "./flat";
import type { MapAnswer } from "../types";

interface Props {
  map: MapAnswer;
  dark: boolean;
  onQuery: (id: string) => void;
  /** Save the selected images as a collection; null where the server keeps none. */
  onKeep: ((ids: readonly string[]) => void) | null;
}

const REACH = 14;
const MOST_KINDS = SHAPES.length * PALETTE.light.length;
const ARROWS: Record<string, readonly [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

/** A sample of the archive as the model sees it: each point is an image. */
export function FlatMap({ map, dark, onQuery, onKeep }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  const whole = useMemo(() => fitted(map, size), [map, size]);
  const [chosen, setView] = useState<View | null>(null);
  const view = chosen ?? whole;
  const [at, setAt] = useState<number | null>(null);
  const [chosenKind, setKind] = useState<number | null>(null);
  const [hint, setHint] = useState<number | null>(null);
  const kind = hint ?? chosenKind;
  const from = useRef<{ x: number; y: number; moved: boolean } | null>(null);
  const [lasso, setLasso] = useState(false);
  const [path, setPath] = useState<readonly Spot[]>([]);
  const [selected, setSelected] = useState<ReadonlySet<number>>(new Set());
  useEffect(() => setSelected(new Set()), [map]);
  const shown = (i: number) => kind === null || map.kind[i] === kind;

  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const watch = new ResizeObserver(() => setSize({ width: element.clientWidth, height: element.clientHeight }));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (canvas.current && size.width) paint(canvas.current, map, view, size, dark, kind, at, selected, path);
  }, [map, view, size, dark, kind, at, selected, path]);

  const place = (event: MouseEvent): [number, number] => [event.offsetX, event.offsetY];
  const find = (event: MouseEvent) => nearest(map, view, size, place(event), REACH, shown);
  const onMove = (event: PointerEvent) => {
    const start = from.current;
    if (!start) return setAt(find(event));
    if (lasso) return setPath((now) => [...now, place(event)]);
    const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
    if (!start.moved && Math.hypot(dx, dy) < 4) return;
    from.current = { x: event.clientX, y: event.clientY, moved: true };
    setView(moved(view, dx, dy));
  };
  const onUp = (event: PointerEvent) => {
    const was = from.current;
    from.current = null;
    if (lasso) {
      const inside = within(map, view, size, path).filter(shown);
      setPath([]);
      // With Shift the selection grows.
      setSelected((now) => new Set([...(event.shiftKey ? now : []), ...inside]));
      return;
    }
    const found = was && !was.moved ? find(event) : null;
    if (found !== null) onQuery(map.ids[found] as string);
  };
  const onKey = (event: KeyboardEvent) => {
    const arrow = ARROWS[event.key];
    if (arrow) {
      event.preventDefault();
      const first = map.ids.findIndex((_, i) => shown(i));
      setAt(at === null || !shown(at) ? Math.max(0, first) : step(map, at, arrow[0], arrow[1], shown));
    } else if ((event.key === "Enter" || event.key === " ") && at !== null) {
      event.preventDefault();
      onQuery(map.ids[at] as string);
    } else if (event.key === "x" && at !== null && onKeep) {
      const next = new Set(selected);
      if (!next.delete(at)) next.add(at);
      setSelected(next);
    } else if (event.key === "Escape") {
      setAt(null);
      setPath([]);
    }
  };
  return (
    <div class="flat">
      <div class="flat-frame">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-label={`Map of ${map.ids.length} images. Arrow keys move between images; Enter searches with the current one; X selects it.`}
          onPointerDown={(event) => {
            if (event.button !== 0) return;
            event.currentTarget.setPointerCapture(event.pointerId);
            from.current = { x: event.clientX, y: event.clientY, moved: false };
          }}
          onPointerMove={onMove}
          onPointerUp={onUp}
          onPointerLeave={() => !from.current && setAt(null)}
          onKeyDown={onKey}
        />
        <div class="flat-zoom">
          <button type="button" class="tool" aria-label="Zoom in" onClick={() => setView(zoomed(view, 1.6, whole))}>
            +
          </button>
          <button type="button" class="tool" aria-label="Zoom out" onClick={() => setView(zoomed(view, 1 / 1.6, whole))}>
            −
          </button>
          <button type="button" class="tool" aria-label="Show all" disabled={!chosen} onClick={() => setView(null)}>
            ⤢
          </button>
        </div>
        {at !== null && <Tip map={map} at={at} spot={onCanvas(view, size, map.x[at] ?? 0, map.y[at] ?? 0)} size={size} />}
      </div>
      {onKeep && (
        <div class="row flat-tools">
          <button type="button" class="tool" aria-pressed={lasso} onClick={() => setLasso(!lasso)}>
            Lasso
          </button>
          <span class="small" role="status">
            {selected.size ? `${selected.size} ${selected.size === 1 ? "image" : "images"} selected` : lasso ? "Draw around images to select them." : ""}
          </span>
          {selected.size > 0 && (
            <>
              <button type="button" class="tool" onClick={() => onKeep([...selected].map((i) => map.ids[i] as string))}>
                Save as a collection
              </button>
              <button type="button" class="tool" onClick={() => setSelected(new Set())}>
                Clear selection
              </button>
            </>
          )}
        </div>
      )}
      <p class="sr-only" role="status">
        {at !== null && `${map.ids[at]}: ${map.kinds[map.kind[at] ?? 0]}`}
      </p>
      <Legend map={map} dark={dark} kind={chosenKind} onKind={setKind} onHint={setHint} />
    </div>
  );
}

function Tip({ map, at, spot, size }: { map: MapAnswer; at: number; spot: [number, number]; size: Size }) {
  const id = map.ids[at] as string;
  const left = Math.min(Math.max(spot[0], 80), Math.max(80, size.width - 80));
  return (
    <div class="flat-tip" data-below={spot[1] < 170 || undefined} style={{ left: `${left}px`, top: `${spot[1]}px` }}>
      <span class="flat-image">
        <Sharp id={id} archive={map.archive} eager />
      </span>
      <b>{map.kinds[map.kind[at] ?? 0]}</b>
      <span>{id}</span>
    </div>
  );
}

interface LegendProps {
  map: MapAnswer;
  dark: boolean;
  kind: number | null;
  onKind: (kind: number | null) => void;
  /** The pointer is on one: it is shown alone for as long. */
  onHint: (kind: number | null) => void;
}

function Legend({ map, dark, kind, onKind, onHint }: LegendProps) {
  const counts = useMemo(() => {
    const found = map.kinds.map(() => 0);
    for (const one of map.kind) found[one] = (found[one] ?? 0) + 1;
    return found;
  }, [map]);
  return (
    <div class="flat-legend" role="group" aria-label={`Show only one ${map.colored_by}`}>
      {map.kinds.map((name, i) => (
        <button
          type="button"
          key={name}
          aria-pressed={kind === i}
          onClick={() => {
            onHint(null);
            onKind(kind === i ? null : i);
          }}
          onPointerEnter={() => onHint(i)}
          onPointerLeave={() => onHint(null)}
        >
          <i data-shape={kindShape(i)} style={{ background: kindColor(i, dark) }} />
          {name} <small>{counts[i]}</small>
        </button>
      ))}
    </div>
  );
}

function paint(canvas: HTMLCanvasElement, map: MapAnswer, view: View, size: Size, dark: boolean, kind: number | null, at: number | null, selected: ReadonlySet<number>, path: readonly Spot[]): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(size.width * ratio);
  canvas.height = Math.round(size.height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const dot = (i: number, radius: number) => {
    const [x, y] = onCanvas(view, size, map.x[i] as number, map.y[i] as number);
    const shape = kindShape(map.kind[i] as number);
    context.beginPath();
    if (shape === "disc") context.arc(x, y, radius, 0, 2 * Math.PI);
    else if (shape === "square") context.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
    else {
      context.moveTo(x, y - 1.25 * radius);
      context.lineTo(x + 1.2 * radius, y + 0.9 * radius);
      context.lineTo(x - 1.2 * radius, y + 0.9 * radius);
      context.closePath();
    }
  };
  const order = map.ids.map((_, i) => i).sort((a, b) => (map.kind[b] as number) - (map.kind[a] as number));
  for (const i of order) {
    const on = kind === null || map.kind[i] === kind;
    context.globalAlpha = on ? 0.85 : 0.1;
    context.fillStyle = kind !== null && on ? kindColor(Math.min(kind, MOST_KINDS - 1), dark) : kindColor(map.kind[i] as number, dark);
    dot(i, on && kind !== null ? 4.5 : 3.5);
    context.fill();
  }
  context.globalAlpha = 1;
  context.strokeStyle = dark ? "#ffffff" : "#17212b";
  context.lineWidth = 1.5;
  for (const i of selected) {
    dot(i, 5.5);
    context.stroke();
  }
  if (path.length > 1) {
    context.setLineDash([5, 4]);
    context.beginPath();
    for (const [x, y] of path) context.lineTo(x, y);
    context.closePath();
    context.stroke();
    context.setLineDash([]);
  }
  if (at === null) return;
  context.lineWidth = 2;
  dot(at, 7);
  context.stroke();
}
