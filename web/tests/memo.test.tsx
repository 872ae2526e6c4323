// @vitest-environment happy-dom
import { render } from "preact";
import { expect, it } from "vitest";
import { memo } from "../src/memo";

it("draws anew only when a property changes, appears or goes", () => {
  let drawn = 0;
  const Part = memo(function Part({ name }: { name: string; more?: number }) {
    drawn += 1;
    return <p>{name}</p>;
  });
  const root = document.createElement("div");
  render(<Part name="a" />, root);
  render(<Part name="a" />, root);
  expect(drawn).toBe(1);
  render(<Part name="b" />, root);
  expect(root.textContent).toBe("b");
  render(<Part name="b" more={1} />, root);
  render(<Part name="b" />, root);
  expect(drawn).toBe(4);
});
