// Python in a thread of its own: it is loaded once, with a module of the page's, whose functions the page then calls.
const say = (what, text) => postMessage([what, text]);
let functions;

async function load({ pyodide, archive, packages, module }) {
  importScripts(`${pyodide}pyodide.js`);
  const ours = fetch(archive).then(answer => {
    if (!answer.ok) throw new Error(`${archive}: ${answer.status} ${answer.statusText}`);
    return answer.arrayBuffer();
  });
  ours.catch(() => {});  // it is awaited below
  const quiet = { messageCallback() {} };
  const python = await loadPyodide({ indexURL: pyodide, packages, ...quiet, stdout: say.bind(null, "text"), stderr: say.bind(null, "text") });
  say("stage", "Python is there, tapegrad is being imported");
  python.unpackArchive(await ours, "zip", { extractDir: "/lib/python3.12/site-packages" });
  functions = python.pyimport(module);
  // What a page of this address keeps in the browser is none of the code's business.
  for (const name of ["indexedDB", "caches", "BroadcastChannel", "Worker", "SharedWorker"])
    for (let place = self; place; place = Object.getPrototypeOf(place)) delete place[name];
}

onmessage = async ({ data: [what, value] }) => {
  try {
    await (what === "load" ? load(value) : functions[what](value, say));
    say("done", what);
  } catch (error) {
    say("failed", String(error?.message ?? error));
  }
};
