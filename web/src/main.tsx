import { render } from "preact";
import { App } from "./App";
import { follow } from "./search/run";
import { followWatches } from "./search/watches";
import { listen } from "./shortcuts";
import "./styles/index.css";

const root = document.getElementById("app");
if (root) {
  follow();
  followWatches();
  listen();
  render(<App />, root);
}
