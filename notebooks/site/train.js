// The page: the text and the settings, the run that Python makes of them, and the model that comes of it.
const text = element("text"), settings = element("settings"), fields = settings.querySelector("fieldset");
let state, wanted, refusal, run, began, paused, page;

function enter(next) {
  state = next;
  const busy = next === "running" || next === "paused";
  element("start").textContent = { running: "Pause", paused: "Go on" }[next] ?? "Start";
  element("stop").disabled = !busy;
  for (const each of [fields, element("default"), element("file")]) each.disabled = busy;
  text.readOnly = busy;
  document.body.dataset.state = next;  // for the tests
}

function load(why) {
  startPython("training", RECEIVE);
  enter("loading");
  show(why);
}

const call = (name, value = "") => worker.postMessage([name, value]);

// ---------------------------------------------------------------------- the run
function go() {
  if (state === "running") {
    call("pause");
    paused = performance.now();
    enter("paused");
    return show("Paused: look inside the model, save it, or go on.");
  }
  if (state === "paused") {
    call("resume");
    began += performance.now() - paused;
    enter("running");
    return show("Training …");
  }
  wanted = true;
  if (state === "failed") load("Python is loading again …");
  if (state === "loading") return show("Python is loading, then the training starts …");
  wanted = false;
  refusal = "";
  began = performance.now();
  forget();
  enter("running");
  show("Reading the text …");
  const chosen = Object.fromEntries([...fields.elements].map(field => [field.name, Number(field.value)]));
  call("train", JSON.stringify({ text: text.value, settings: chosen }));
}

function stop() {
  if (state !== "running" && state !== "paused") return;
  call("stop");
  enter("running");
  show("Stopping after this step …");
}

// What comes from the worker is text, or goes into a sandboxed frame.
const RECEIVE = {
  stage: words => state === "loading" && !wanted && show(words + " …"),
  text: words => console.log(words),
  begun(json) {
    run = { ...JSON.parse(json), losses: [], speeds: [], evaluations: [], changed: true };
    element("samples").replaceChildren();
    element("model").hidden = false;
    element("waiting").hidden = true;
    element("size").textContent = `${count(run.parameters)} parameters, ${count(run.vocabulary)} different characters; ` +
      `${count(run.steps)} steps of ${count(run.tokens)} characters`;
    show("Training …");
  },
  step(json) {
    const [iter, loss, speed] = JSON.parse(json);
    run.losses[iter - 1] = loss;
    run.speeds.push(speed);
    redraw();
    if (iter === run.steps - 1) show("The last step, and the loss on all of the text held out …");
  },
  evaluation(json) {
    run.evaluations.push(JSON.parse(json));
    redraw();
  },
  sample(json) {
    const [iter, written] = JSON.parse(json), last = run.evaluations.at(-1);
    const item = document.createElement("li"), title = document.createElement("b"), quote = document.createElement("pre");
    title.textContent = iter ? `After ${plural(iter, "step")}` : "Before training";
    quote.textContent = written;
    item.append(title, last?.[0] === iter ? `  loss ${last[1].toFixed(2)} on text held out` : "", quote);
    element("samples").prepend(item);
  },
  refused(words) { refusal = words; },
  page(html) {
    page = html;
    element("inside").replaceChildren();
    frame(element("inside"), html, "Inside the model");
    element("save-page").hidden = false;
    element("saved").textContent = "";
  },
  checkpoint(base64) {
    download("model.safetensors", Uint8Array.from(atob(base64), c => c.charCodeAt(0)));
    element("saved").textContent = "Saved. On your machine: python -m gpt sample model.safetensors --prompt \"The \"";
  },
  done(what) {
    if (what === "load") {
      enter("ready");
      show("Python is ready.");
      if (wanted) settings.requestSubmit();
    } else if (what === "train") {
      enter("ready");
      if (refusal) return show(refusal, true);
      const taken = run.losses.length, seconds = (performance.now() - began) / 1000;
      show(`${taken < run.steps ? "Stopped" : "Done"}: ${plural(taken, "step")} in ${duration(seconds)}. Below is the ` +
           "inside of the model.");
      look();
    } else if (refusal) element("saved").textContent = refusal;
  },
  failed(words) {
    const loading = state === "loading";
    worker.terminate();
    if (!loading) {
      console.error(words);
      forget();
      return load("Python broke down, and the model is lost. Python is loading again …");
    }
    wanted = false;
    enter("failed");
    show(unreachable(words, "Start"), true);
  },
};

// ---------------------------------------------------------------------- how it goes
const count = n => n.toLocaleString("en");
const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
const duration = seconds => seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
const mean = numbers => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
// The mean of the last numbers before an end: of 20, or of fewer early on, when a loss falls fast.
const recent = (numbers, end = numbers.length) => mean(numbers.slice(end - Math.min(20, Math.ceil(end / 5)), end));

function redraw() {
  if (!run?.changed) return;
  run.changed = false;
  requestAnimationFrame(() => {
    run.changed = true;
    const { losses, speeds, evaluations, steps, tokens } = run, speed = mean(speeds.slice(-20)), last = evaluations.at(-1);
    drawCurve(element("curve"), run);
    element("pace").textContent = [`step ${count(losses.length)} of ${count(steps)}`,
      `loss ${recent(losses).toFixed(2)}`, ...(last ? [`held out ${last[1].toFixed(2)}`] : []),
      `${count(Math.round(speed))} tokens/s`,
      ...(losses.length < steps ? [`about ${duration((steps - losses.length) * tokens / speed)} left`] : []),
    ].join("  ·  ");
  });
}

// ---------------------------------------------------------------------- the model
function look() {
  element("saved").textContent = "Copying the weights into a page …";
  call("look");
}

function forget() {
  page = "";
  element("model").hidden = element("save-page").hidden = true;
  element("inside").replaceChildren();
  element("saved").textContent = "";
}

function download(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// ---------------------------------------------------------------------- the text
function describe(source) {
  element("about").textContent = `${plural(text.value.length, "character")}: ${source}`;
}

function write(words, source) {
  text.value = words;
  text.scrollTop = 0;
  describe(source);
}

async function read(file) {
  if (!file || text.readOnly) return;
  const bytes = new Uint8Array(await file.slice(0, 50_000_000).arrayBuffer());
  const mark = bytes[0] * 256 + bytes[1], encoding = { 0xfffe: "utf-16le", 0xfeff: "utf-16be" }[mark] ?? "utf-8";
  try {
    const words = new TextDecoder(encoding, { fatal: true }).decode(bytes);
    if (words.includes("\0")) throw new TypeError();
    write(words, file.name);
  } catch {
    element("about").textContent = `${file.name} is not UTF-8 text: save it as UTF-8, or take another file.`;
  }
}

// ---------------------------------------------------------------------- controls
element("default").addEventListener("click", () => write(data.text, data.source));
text.addEventListener("input", () => describe("your own text"));
element("file").addEventListener("change", ({ target }) => read(target.files[0]).then(() => { target.value = ""; }));
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  read(event.dataTransfer.files[0]);
});
settings.addEventListener("submit", event => {
  event.preventDefault();
  go();
});
element("stop").addEventListener("click", stop);
element("look").addEventListener("click", () => {
  look();
  element("model").scrollIntoView({ behavior: "smooth" });
});
element("save").addEventListener("click", () => {
  element("saved").textContent = "Writing the checkpoint …";
  call("save");
});
element("save-page").addEventListener("click", () => download("page.html", page));
addEventListener("keydown", event => {
  if (!(event.ctrlKey || event.metaKey)) return;
  if (event.key === "Enter") settings.requestSubmit();
  else if (event.key === ".") stop();
  else return;
  event.preventDefault();
});
new ResizeObserver(redraw).observe(element("curve"));
write(data.text, data.source);
load(FIRST);
