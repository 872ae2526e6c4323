// Write a .br and a .gz beside each file of a built page that gets smaller by it.
//
//   node scripts/compress_page.mjs FOLDER
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const TEXT = /\.(css|html|js|json|svg|txt|webmanifest)$/;
const SMALLEST = 512;

const folder = process.argv[2];
if (!folder) throw new Error("name the folder of the page");
for (const one of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  const path = join(one.parentPath, one.name);
  if (!one.isFile() || !TEXT.test(one.name)) continue;
  const data = readFileSync(path);
  if (data.length < SMALLEST) continue;
  const params = {
    [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
    [constants.BROTLI_PARAM_SIZE_HINT]: data.length,
  };
  const made = { ".br": brotliCompressSync(data, { params }), ".gz": gzipSync(data, { level: 9 }) };
  for (const [suffix, bytes] of Object.entries(made))
    if (bytes.length < data.length) writeFileSync(path + suffix, bytes);
}
