/** The page. */
export function App() {
  return <h1>LandCue</h1>;
}
