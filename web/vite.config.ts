import { defineConfig } from "vitest/config";

// The service refuses pages of other origins, so the name the browser asked by is passed on.
const server = { "/v1": { target: "http://127.0.0.1:8000", changeOrigin: false } };

export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/landcue/server/page",
    emptyOutDir: true,
    target: ["chrome123", "edge123", "firefox121", "safari17.5"],
    // A preload polyfill and inlined assets would ask for a looser content security policy.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: true,
    // MapLibre is large, and loaded only when a map is shown.
    chunkSizeWarningLimit: 1200,
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { host: "127.0.0.1", port: 5173, proxy: server },
  preview: { host: "127.0.0.1", port: 4173, proxy: server },
  test: { include: ["tests/**/*.test.{ts,tsx}"] },
});
