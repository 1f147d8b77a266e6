// Run pytest in Pyodide: node pyodide.mjs FOLDER_OF_PYODIDE ARCHIVE ARGUMENT ...  The archive has this repository and
// the pure Python that its tests need.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, archive, ...args] = process.argv.slice(2);
const { loadPyodide } = createRequire(import.meta.url)(`${folder}/pyodide.js`);
const python = await loadPyodide({ indexURL: `${folder}/`, packages: ["numpy", "sqlite3"], args: [] });
python.unpackArchive(new Uint8Array(readFileSync(archive)), "zip", { extractDir: "/work" });
python.globals.set("arguments", python.toPy(args));
process.exitCode = python.runPython(`
import os, sys
os.chdir("/work")
sys.path.insert(0, "/work")
import pytest
int(pytest.main(list(arguments)))
`);
