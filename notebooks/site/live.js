// The page: Python in a worker, what it sends, the examples, and the code in the page's address.
// ---------------------------------------------------------------------- Python
let state, wanted, played, began, clock;

function enter(next) {
  state = next;
  element("run").disabled = next === "running";
  element("stop").disabled = next !== "running";
  document.body.dataset.state = next;  // for the tests
}

function start(why) {
  clearInterval(clock);
  startPython("runner", RECEIVE);
  enter("loading");
  show(why);
}

function run() {
  if (state === "running") return;
  wanted = true;
  keep();
  element("notice").hidden = true;
  if (state === "failed") start("Python is loading again …");
  if (state === "loading") return show("Python is loading, then this runs …");
  wanted = false;
  element("output").replaceChildren();
  markLine(0);
  played = false;
  began = performance.now();
  enter("running");
  show("running …");
  clock = setInterval(() => show(`running, ${((performance.now() - began) / 1000).toFixed(0)} s`), 1000);
  worker.postMessage(["run", code.value]);
}

function stop() {
  if (state === "running") start("Stopped. Python is loading again …");
}

// What comes from the worker is text, or goes into a sandboxed frame.
const RECEIVE = {
  stage: text => state === "loading" && !wanted && show(text + " …"),
  text: text => print(text),
  error(text) {
    const [line, ...lines] = text.split("\n");
    print(lines.join("\n").trimEnd(), "error");
    markLine(/^\d+$/.test(line) ? Number(line) : 0);
  },
  html: text => frame(element("output"), data.frame + text, "What the last line shows"),
  player(text) {
    clearPlayer(true);
    connectPlayer(frame(element("player"), text, "Player of the tape"), 0);
  },
  changed: playChanged,
  answer: text => answer?.(text),
  done(what) {
    clearInterval(clock);
    const first = what === "load", seconds = (performance.now() - (first ? 0 : began)) / 1000;
    if (what === "run" && !played) clearPlayer(false);
    answer = null;
    enter("ready");
    show(first ? "Python is ready." : `done in ${seconds < 1 ? Math.round(seconds * 1000) + " ms" : seconds.toFixed(1) + " s"}`);
    if (wanted) run();
  },
  failed(text) {
    const loading = state === "loading";
    clearInterval(clock);
    worker.terminate();
    if (!loading) {
      print(text, "error");
      return start("Python broke down, and is loading again …");
    }
    wanted = false;
    enter("failed");
    show(unreachable(text, "Run"), true);
  },
};

function print(text, className = "") {
  const output = element("output"), below = output.scrollHeight - output.scrollTop - output.clientHeight < 30;
  let last = output.lastElementChild;
  if (last?.tagName !== "PRE" || last.className !== className) {
    last = document.createElement("pre");
    last.className = className;
    output.append(last);
  }
  last.append(text);
  const long = performance.now() - began > 1500;  // what is done at once is read from its beginning
  if (className || below && long) output.scrollTop = output.scrollHeight;
}

function clearPlayer(another) {
  played = another;
  element("original").hidden = true;
  element("player").replaceChildren();
  element("waiting").hidden = another;
}

// ---------------------------------------------------------------------- other values in a tape
let answer = null;  // takes the answer to the question that Python is at

/** Let a player ask what another value would change: which record, and numbers.  Nothing else gets to Python. */
function connectPlayer(made, which) {
  const { port1: port, port2 } = new MessageChannel();
  made.addEventListener("load", () => made.contentWindow.postMessage("what_if", "*", [port2]), { once: true });
  port.onmessage = ({ data: message }) => {
    const [way, place, record, value] = Array.isArray(message) ? message : [];
    if (!["compare", "play"].includes(way) || !Number.isInteger(record) || record < 0 || !isNumbers(value)) return;
    if (state !== "ready") return port.postMessage([place, "Python is busy."]);
    answer = text => port.postMessage([place, text]);
    ask([which, record, value, way === "play"]);
  };
}

function ask(question) {
  began = performance.now();
  enter("running");
  show("playing the tape again …");
  worker.postMessage(["what_if", JSON.stringify(question)]);
}

/** True for a text of JSON with a number, or nested lists of numbers. */
function isNumbers(text) {
  return typeof text === "string" && text.length < LONGEST && /^[[\]\d.,eE+\s-]+$/.test(text);
}

function playChanged(text) {
  element("player").querySelector(".changed")?.remove();
  element("player").firstElementChild.hidden = true;
  const made = frame(element("player"), text, "Player of the tape with another value");
  made.className = "changed";
  connectPlayer(made, 1);
  answer?.("It is played now.");
  element("original").hidden = false;
}

function playOriginal() {
  element("original").hidden = true;
  element("player").querySelector(".changed")?.remove();
  element("player").firstElementChild.hidden = false;
}

// ---------------------------------------------------------------------- the address
const packed = (bytes, stream) => new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer();
const LONGEST = 100_000;  // characters of code that a link may bring

async function encode(text) {
  const bytes = new Uint8Array(await packed(new TextEncoder().encode(text), new CompressionStream("deflate-raw")));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

async function decode(text) {
  const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), c => c.charCodeAt(0));
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for (let result = "";;) {
    const { done, value } = await reader.read();
    result += decoder.decode(value, { stream: !done });
    if (result.length > LONGEST) throw new Error("too long");
    if (done) return result;
  }
}

let saving;
async function keep() {
  clearTimeout(saving);
  const text = code.value, example = data.examples.find(({ source }) => source === text);
  element("examples").value = example?.name ?? "";
  const fragment = example ? `#example=${example.name}` : `#code=${await encode(text)}`;
  if (text === code.value && fragment !== location.hash) history.replaceState(null, "", fragment);
}

async function open(first) {
  const [what, value] = location.hash ? location.hash.slice(1).split("=", 2) : ["example", data.examples[0].name];
  element("notice").hidden = true;
  const name = what === "example" ? value : "";
  const example = data.examples.find(each => each.name === name);
  try {
    if (what === "code") {
      writeAll(await decode(value));
      say("This code came with the link. Read it, then press Run.");
    } else if (example) {
      writeAll(example.source);
      if (first) wanted = true;  // it is the page's own
    } else {
      say("The link has no code, and no example that is here.");
    }
  } catch {
    say("The code in the link cannot be read: it is cut off or damaged.");
  }
  element("examples").value = example?.name ?? "";
  paint();
}

function say(words) {
  element("notice").textContent = words;
  element("notice").hidden = false;
}

async function share() {
  await keep();
  try {
    await navigator.clipboard.writeText(location.href);
    show("The link is copied: the code is in it.");
  } catch {
    show("The page's address holds the code: copy it from there.");
  }
}

// ---------------------------------------------------------------------- controls
element("examples").append(new Option("your own", ""), ...data.examples.map(({ name, title }) => new Option(title, name)));
element("examples").addEventListener("change", ({ target: { value } }) => {
  const example = data.examples.find(({ name }) => name === value);
  if (!example) return;
  writeAll(example.source);
  element("examples").focus();
  if (state === "running") stop();
  run();
});
element("run").addEventListener("click", run);
element("stop").addEventListener("click", stop);
element("share").addEventListener("click", share);
element("original").addEventListener("click", playOriginal);
code.addEventListener("input", () => {
  markLine(0);
  clearTimeout(saving);
  saving = setTimeout(keep, 400);
});
addEventListener("keydown", event => {
  if (!(event.ctrlKey || event.metaKey)) return;
  if (event.key === "Enter") run();
  else if (event.key === ".") stop();
  else return;
  event.preventDefault();
});
addEventListener("hashchange", () => open(false));
start(FIRST);
open(true);
