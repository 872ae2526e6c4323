import { render } from "preact";
import { App } from "./App";
import { follow } from "./search/run";
import { listen } from "./shortcuts";
import "./styles/index.css";

const root = document.getElementById("app");
if (root) {
  follow();
  listen();
  render(<App />, root);
}
