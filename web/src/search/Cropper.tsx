import { useRef, useState } from "preact/hooks";
import { useBlobUrl } from "../Remote";
import { Sheet } from "../Sheet";
import type { Crop } from "../state";
import { ask, dialog, picture, state } from "../store";
import { between, cropKey, isWhole, middle, moved, resized, type Handle } from "./crop";
import { NO_MARKS } from "./marks";

const HANDLES: readonly Handle[] = ([-1, 0, 1] as const).flatMap((y) =>
  ([-1, 0, 1] as const).filter((x) => x || y).map((x) => ({ x, y })),
);

/** Choose the region of the query image by pointer or keyboard. */
export function Cropper() {
  const known = picture.value;
  const size = known?.size ?? null;
  const { query } = state.value;
  const url = useBlobUrl(known?.blob ?? null);
  const [crop, setCrop] = useState<Crop | null>(
    size && ((query.kind === "image" && query.crop) || middle(size)),
  );
  const frame = useRef<SVGSVGElement>(null);
  const drag = useRef<{ x: number; y: number; crop: Crop; handle: Handle | "move" | "draw" } | null>(null);
  if (!known || !size || !crop) return null;
  const close = () => (dialog.value = null);

  /** Return where a pointer is in the image's pixels. */
  const place = (event: PointerEvent) => {
    const box = frame.current?.getBoundingClientRect();
    if (!box) return { x: 0, y: 0 };
    return {
      x: ((event.clientX - box.left) / box.width) * size.width,
      y: ((event.clientY - box.top) / box.height) * size.height,
    };
  };
  const start = (handle: Handle | "move" | "draw") => (event: PointerEvent) => {
    event.stopPropagation();
    frame.current?.setPointerCapture(event.pointerId);
    drag.current = { ...place(event), crop, handle };
  };
  const drags = (event: PointerEvent) => {
    const from = drag.current;
    if (!from) return;
    const to = place(event);
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    if (from.handle === "move") setCrop(moved(from.crop, dx, dy, size));
    else if (from.handle === "draw") setCrop(between(from.x, from.y, to.x, to.y, size));
    else setCrop(resized(from.crop, from.handle, dx, dy, size));
  };
  const use = (region: Crop | null) => {
    const part = region && !isWhole(region, size) ? region : null;
    // The whole of a record is the record itself.
    if (part || query.kind === "image") ask({ query: { kind: "image", key: known.key, crop: part }, ...NO_MARKS });
    close();
  };
  const { col, row, width, height } = crop;
  const outside = `M0 0H${size.width}V${size.height}H0ZM${col} ${row}v${height}h${width}v${-height}Z`;
  const unit = Math.max(size.width, size.height) / 100;
  return (
    <Sheet title="Search with a region" onClose={close}>
      <p class="small">Draw a region, or drag it or its corners. Arrow keys move it; Shift + arrow keys resize it.</p>
      <div class="crop-stage">
        {url && <img src={url} alt={`Image to crop: ${known.name}`} />}
        <svg
          ref={frame}
          class="crop-frame"
          viewBox={`0 0 ${size.width} ${size.height}`}
          preserveAspectRatio="none"
          // In small letters: on SVG the other spelling is no attribute, and keys would not reach it.
          tabindex={0}
          role="application"
          aria-label="Region"
          aria-describedby="crop-says"
          onPointerDown={start("draw")}
          onPointerMove={drags}
          onPointerUp={() => (drag.current = null)}
          onPointerCancel={() => (drag.current = null)}
          onKeyDown={(event) => {
            const { key, shiftKey } = event;
            if (cropKey(crop, key, shiftKey, size)) {
              event.preventDefault();
              // Of the newest one: keys may come faster than they are drawn.
              setCrop((now) => now && cropKey(now, key, shiftKey, size));
            } else if (key === "Enter") use(crop);
          }}
        >
          <path class="crop-outside" d={outside} fill-rule="evenodd" />
          <rect class="crop-box" x={col} y={row} width={width} height={height} onPointerDown={start("move")} />
          {HANDLES.map((handle) => (
            <rect
              key={`${handle.x}${handle.y}`}
              class="crop-handle"
              x={col + ((handle.x + 1) / 2) * width - 1.4 * unit}
              y={row + ((handle.y + 1) / 2) * height - 1.4 * unit}
              width={2.8 * unit}
              height={2.8 * unit}
              onPointerDown={start(handle)}
            />
          ))}
        </svg>
      </div>
      <p class="mono small" id="crop-says" aria-live="polite">{`${width} × ${height} pixels at ${col}, ${row} of ${size.width} × ${size.height}`}</p>
      <div class="row end">
        <button type="button" class="tool" onClick={() => use(null)}>
          Whole image
        </button>
        <button type="button" class="primary" onClick={() => use(crop)}>
          Search this region
        </button>
      </div>
    </Sheet>
  );
}
