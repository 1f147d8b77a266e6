// What the pages that run Python share: its worker, all that they may load, and the line that says how it is.
const element = id => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const pyodide = new URL(data.pyodide, location.href).href;
const archive = new URL(`tapegrad.zip?${data.digest}`, location.href).href;

// From here on nothing may be asked for but these two; the worker and the frames inherit it.
const allowed = [archive.split("?")[0], pyodide].map(url => url.replaceAll(";", "%3B").replaceAll(",", "%2C"));
const policy = document.createElement("meta");
policy.httpEquiv = "Content-Security-Policy";
policy.content = `connect-src ${allowed.join(" ")}; script-src ${data.scripts} ${allowed[1]}; worker-src blob:`;
document.head.append(policy);

const script = URL.createObjectURL(new Blob([data.worker], { type: "text/javascript" }));
const FIRST = "Python is loading: about 10 MB the first time, from the browser's cache later …";
let worker;

// Start Python anew, with the functions of a module.  What comes from the worker may be anything that a reader's code
// has sent: it is handed on as text, to the function of that name in `receivers`.
function startPython(module, receivers) {
  worker?.terminate();
  worker = new Worker(script);
  const receive = message => {
    const [what, text] = Array.isArray(message) ? message : [];
    if (Object.hasOwn(receivers, what)) receivers[what](String(text));
  };
  worker.onmessage = ({ data: message }) => receive(message);
  worker.onerror = event => { event.preventDefault(); receive(["failed", event.message || "the worker did not start"]); };
  worker.postMessage(["load", { pyodide, archive, packages: ["numpy"], module }]);
}

const unreachable = (text, again) => `Python could not be loaded (${text}). It comes from ${pyodide}, which has to be ` +
  `within reach${location.protocol === "file:" ? ", and this page has to come from a server: python -m http.server" : ""}. ` +
  `${again} tries again.`;

function show(words, failed = false) {
  element("status").textContent = words;
  element("status").classList.toggle("failed", failed);
}

function frame(place, html, title) {
  const made = document.createElement("iframe");
  made.setAttribute("sandbox", "allow-scripts");
  made.title = title;
  made.srcdoc = html;
  place.append(made);
  return made;
}
