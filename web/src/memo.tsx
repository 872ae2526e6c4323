import { Component, type ComponentType } from "preact";

/** Return a component that is drawn anew only when one of its properties is another value. */
export function memo<P extends object>(Part: ComponentType<P>): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      const keys = Object.keys({ ...this.props, ...next }) as (keyof P)[];
      return keys.some((key) => this.props[key] !== next[key]);
    }
    override render(props: P) {
      return <Part {...props} />;
    }
  };
}
