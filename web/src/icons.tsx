/** Line icons, 16 by 16 pixels, hidden from screen readers; a text label accompanies each. */

const PATHS = {
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.5 10.5 14 14",
  crop: "M4.5 1v10.5H15M1 4.5h10.5V15",
  image: "M2 3h12v10H2zM2 11l3.5-3.5L8 10l2.5-2.5L14 11M10.5 5.5h.01",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
  left: "M10 3 5 8l5 5",
  right: "M6 3l5 5-5 5",
  clock: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 4.5V8l2.5 1.5",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  moon: "M13 9.5A5.5 5.5 0 1 1 6.5 3 4.5 4.5 0 0 0 13 9.5z",
  help: "M6 6a2 2 0 1 1 2.8 1.8C8.2 8.1 8 8.5 8 9.2M8 11.5h.01M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z",
  export: "M8 2v8M5 7l3 3 3-3M2.5 11v2.5h11V11",
  grid: "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z",
  map: "M2 4l4-1.5 4 1.5 4-1.5v9.5L10 13.5 6 12l-4 1.5zM6 2.5V12M10 4v9.5",
  both: "M2 2h5v12H2zM9 2h5v12H9z",
  link: "M6.5 9.5l3-3M7 4.5l1.5-1.5a3 3 0 0 1 4.2 4.2L11.2 8.8M9 11.5 7.5 13a3 3 0 0 1-4.2-4.2l1.5-1.6",
  check: "M3 8.5l3.5 3.5L13 4.5",
  pile: "M2 5.5 8 2.5l6 3-6 3zM2 8.5l6 3 6-3M2 11.5l6 3 6-3",
  bell: "M4 11.5V7a4 4 0 0 1 8 0v4.5l1 1H3zM6.5 14h3",
  filter: "M2 3.5h12M4 8h8M6.5 12.5h3",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}

/** Contour lines, as on a map sheet. */
export function Contours() {
  const rings = [0, 1, 2, 3, 4, 5, 6];
  return (
    <svg class="contours" viewBox="0 0 480 240" preserveAspectRatio="xMidYMid slice" aria-hidden="true" focusable="false">
      {rings.map((at) => (
        <path key={at} d={hill(300, 96, 30 + at * 27, at)} />
      ))}
      {rings.slice(0, 5).map((at) => (
        <path key={`b${at}`} d={hill(90, 190, 16 + at * 19, at + 3)} />
      ))}
    </svg>
  );
}

/** A closed line around a point, uneven as a hill is. */
function hill(x: number, y: number, radius: number, seed: number): string {
  const steps = 120;
  const points = Array.from({ length: steps }, (_, at) => {
    const turn = (at / steps) * 2 * Math.PI;
    const uneven = 1 + 0.16 * Math.sin(2 * turn + seed * 0.3) + 0.09 * Math.sin(3 * turn + 1.2 - seed * 0.2) + 0.04 * Math.sin(7 * turn + seed);
    return `${(x + 1.5 * radius * uneven * Math.cos(turn)).toFixed(1)} ${(y + 0.85 * radius * uneven * Math.sin(turn)).toFixed(1)}`;
  });
  return `M${points.join("L")}Z`;
}
