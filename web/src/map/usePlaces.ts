import { useEffect, useRef, useState } from "preact/hooks";
import type { Box } from "../names";
import type { PlacesAnswer } from "../types";
import type { Survey } from "./props";

export interface View {
  readonly box: Box;
  readonly zoom: number;
}

interface Places {
  readonly answer: PlacesAnswer | null;
  readonly busy: boolean;
  readonly problem: string;
}

const SETTLING = 120;

/** All records of the search within the view; earlier ones stay until the new ones are there. */
export function usePlaces(survey: Survey, key: string, view: View | null, label: string | null, wanted: boolean): Places {
  const [places, setPlaces] = useState<Places>({ answer: null, busy: false, problem: "" });
  const search = useRef(key);
  // The first view is no move that goes on.
  const started = useRef(false);
  const at = view && `${view.box.join()} ${view.zoom}`;
  useEffect(() => {
    const other = search.current !== key;
    search.current = key;
    if (!wanted || !view) {
      setPlaces({ answer: null, busy: false, problem: "" });
      return;
    }
    setPlaces((now) => ({ answer: other ? null : now.answer, busy: true, problem: "" }));
    const mine = new AbortController();
    const moved = started.current;
    started.current = true;
    const timer = setTimeout(async () => {
      try {
        const answer = await survey(view.box, view.zoom, label, mine.signal);
        setPlaces({ answer, busy: false, problem: "" });
      } catch (error) {
        if (mine.signal.aborted) return;
        const problem = error instanceof Error ? error.message : "The records in this view could not be read.";
        setPlaces({ answer: null, busy: false, problem });
      }
    }, moved ? SETTLING : 0);
    return () => {
      clearTimeout(timer);
      mine.abort();
    };
  }, [key, at, label, wanted]);
  return places;
}
