import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";

interface Loaded<P> {
  Part: ComponentType<P> | null;
  failed: boolean;
}

/** Return a component whose code is fetched when it is first shown. */
export function lazy<P extends object>(load: () => Promise<{ default: ComponentType<P> }>, name: string) {
  let known: ComponentType<P> | null = null;
  return function Lazy(props: P) {
    const [state, setState] = useState<Loaded<P>>({ Part: known, failed: false });
    useEffect(() => {
      if (known) return;
      let shown = true;
      load().then(
        (module) => {
          known = module.default;
          if (shown) setState({ Part: known, failed: false });
        },
        () => shown && setState({ Part: null, failed: true }),
      );
      return () => {
        shown = false;
      };
    }, []);
    if (state.failed) return <p class="note">{name} could not be loaded. Reload the page to try again.</p>;
    if (!state.Part) return <p class="note" role="status">{`Loading ${name} …`}</p>;
    return <state.Part {...props} />;
  };
}
