// Builds dist/, the folder that becomes /usr/share/cockpit/consoleserver. What is text is stored compressed: cockpit-ws serves
// index.js.gz as index.js.
import { build } from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const out = new URL("dist/", import.meta.url).pathname;
const here = new URL("./", import.meta.url).pathname;
// The directory itself stays: while the page is worked on, it is mounted elsewhere.
mkdirSync(out, { recursive: true });
for (const name of readdirSync(out)) rmSync(out + name);
// The oldest browsers that Cockpit 287 works with.
const target = ["chrome94", "firefox93", "safari15.4"];
const { metafile } = await build({
    entryPoints: { index: `${here}src/main.js` },
    bundle: true,
    minify: true,
    format: "iife",
    target,
    legalComments: "none",
    outdir: out,
    logLevel: "warning",
    metafile: true,
});
// tests/tools/audit-cockpit checks the files that are shipped.
const { dependencies } = JSON.parse(readFileSync(`${here}package.json`, "utf8"));
for (const input of Object.keys(metafile.inputs)) {
    const [, name] = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input) || [];
    if (name && !(name in dependencies)) {
        console.error(`${name} is compiled in and not one of the dependencies of package.json`);
        process.exit(1);
    }
}
let total = 0;
for (const name of ["index.js", "index.css"]) {
    // Level 9 and no time stamp: the same sources give the same package.
    const packed = gzipSync(readFileSync(out + name), { level: 9 });
    writeFileSync(`${out}${name}.gz`, packed);
    rmSync(out + name);
    total += packed.length;
}
for (const name of ["index.html", "manifest.json"]) {
    copyFileSync(here + name, out + name);
    total += gzipSync(readFileSync(here + name)).length;
}
// Issue 18: the page costs a slow line no more than that.
const LIMIT = 300_000;
if (total > LIMIT) {
    console.error(`dist/ is ${total} bytes compressed; the limit is ${LIMIT}`);
    process.exit(1);
}
console.log(`dist/: ${total} bytes compressed`);
