// The page: asking, the answer as it comes, and the rest of what can be clicked.

let writing = null;  // the AbortController of the answer that is being written

/** Send a request to the server.  Throws an Error with its line if it refuses. */
async function post(path, body, signal) {
  let answered;
  try {
    const headers = { "Content-Type": "application/json", "X-Token": new URLSearchParams(location.search).get("token") };
    answered = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The program behind this page has ended: start gpt chat --web again, and open the address that it prints.");
  }
  if (answered.ok) return answered;
  throw new Error(await answered.json().then((found) => found.error, () => `the request was refused (${answered.status})`));
}

/** Yield the objects of an answer, each a line of JSON. */
async function* lines(answered) {
  const reader = answered.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", step; !(step = await reader.read()).done;) {
    const parts = (rest + step.value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

/** The conversation before turn `i`, as the server takes it. */
function messagesBefore(i) {
  const system = data.takesSystem && $("system").value.trim() ? [{ role: "system", text: $("system").value.trim() }] : [];
  return [...system, ...turns.slice(0, i).map((turn) =>
    isAnswer(turn) ? { role: "assistant", text: textOf(turn), tokens: idsOf(version(turn)) } : { role: "user", text: turn.text })];
}

/** Have turn `i` written: a new turn, or another version of an old one; it begins with tokens that are there. */
async function answer(i, begin) {
  if (writing) return;
  writing = new AbortController();
  const messages = messagesBefore(i), fresh = { prompt: [], tokens: [], notes: [], seconds: 0 };
  cutTurns(i + 1);
  unchoose();
  say("");
  if (i === turns.length) addTurn({ versions: [fresh], shown: 0 });
  else turns[i].shown = turns[i].versions.push(fresh) - 1;
  const turn = turns[i];
  renderTurn(turn);
  turn.node.firstChild.classList.add("caret");
  showState();
  following = true;
  follow();
  try {
    await write(turn, fresh, messages, begin);
  } catch (error) {
    if (error.name === "AbortError") fresh.notes.push("stopped");
    else say(error.message);
  }
  writing = null;
  turn.node.firstChild.classList.remove("caret");
  if (!fresh.tokens.length) dropVersion(turn);
  showState();
}

async function write(turn, fresh, messages, begin) {
  const settings = { temperature: +$("temperature").value, top_k: +$("top-k").value, max_new_tokens: +$("most").value };
  const answered = await post("answer", { messages, begin: begin.map((token) => token.id), ...settings }, writing.signal);
  let began = performance.now(), drawn = 0;
  for await (const event of lines(answered)) {
    if (event.error) throw new Error(event.error);
    else if (event.note) fresh.notes = [...new Set([...fresh.notes, event.note])];
    else if (event.prompt) fresh.prompt = event.prompt;
    else if ("id" in event) {
      addToken(turn, event);
      if (!drawn++) began = performance.now();  // the prompt has been read
      fresh.seconds = (performance.now() - began) / 1000 * fresh.tokens.length / Math.max(1, drawn - 1);
    } else if (fresh.tokens.length < begin.length) addToken(turn, { ...begin[fresh.tokens.length], text: event.text });
    else if (event.text) fresh.tokens.findLast((token) => !token.end).text += event.text;
    if (chosen) $("later").disabled = false;
    $("status").textContent = `${count(fresh.tokens.length, "token")} …`;
  }
}

/** Drop an answer of which nothing came; the question goes back to where it was written. */
function dropVersion(turn) {
  turn.versions.pop();
  if (turn.versions.length) {
    turn.shown = turn.versions.length - 1;
    renderTurn(turn);
    return;
  }
  const i = turns.indexOf(turn), { text } = turns[i - 1];
  cutTurns(i - 1);
  $("question").value ||= text;
  fit();
}

// ------------------------------------------------------------------ what is below the conversation

function say(line) {
  $("message").textContent = line && line[0].toUpperCase() + line.slice(1);
  $("message").hidden = !line;
}

function showState() {
  $("send").textContent = writing ? "Stop" : data.chats ? "Send" : "Go on";
  $("send").classList.toggle("stop", !!writing);
  $("status").textContent = writing ? "Reading …" : "";
  $("intro").hidden = turns.length > 0;
  $("new").disabled = $("save").disabled = !turns.length || !!writing;
  turns.forEach(renderTools);
  if (!writing) remember();
  if (chosen) showOthers();
}

/** The field of the question is as high as its text. */
function fit() {
  $("question").style.height = "auto";
  $("question").style.height = `${$("question").scrollHeight + 2}px`;
}

function ask() {
  const text = $("question").value;
  if (data.chats && !text.trim()) return;
  if (!turns.length && !text) return say("There is no text to go on with: write some.");
  addTurn({ text: data.chats ? text.trim() : text });
  $("question").value = "";
  fit();
  answer(turns.length, []);
}

function save() {
  const system = $("system").value.trim(), role = (turn) => (isAnswer(turn) ? "assistant" : "user");
  const messages = [...(data.takesSystem && system ? [{ role: "system", content: system }] : []),
    ...turns.map((turn) => ({ role: role(turn), content: textOf(turn) }))];
  const href = URL.createObjectURL(new Blob([JSON.stringify({ messages }) + "\n"], { type: "application/jsonl" }));
  el("a", { href, download: "chat.jsonl" }).click();
  URL.revokeObjectURL(href);
}

function start() {
  $("name").textContent = harmless(data.name);
  $("about").textContent = data.about;
  $("mode").textContent = data.chats ? "Ask something below."
    : "This model continues text: write a beginning, and it goes on from there. (gpt tune teaches it to answer.)";
  $("question").placeholder = data.chats ? "Ask something" : "Write a beginning";
  $("question").title = "Enter sends, Shift+Enter begins a line";
  $("question").setAttribute("aria-label", data.chats ? "Your question" : "Text to continue");
  $("turns").classList.toggle("plain", !data.chats);
  $("system-box").hidden = !data.takesSystem;
  $("system-box").open = !!data.system;
  $("system").value = data.system;
  $("temperature").value = data.temperature;
  $("top-k").value = data.topK;
  $("top-k").max = data.vocabulary;
  $("most").value = data.maxNewTokens;
  underline($("sure"), 1);
  underline($("unsure"), 0.001);
  const showTemperature = () => ($("temperature-value").textContent = +$("temperature").value ? (+$("temperature").value).toFixed(2) : "greedy");
  $("temperature").oninput = showTemperature;
  showTemperature();
  $("ask").onsubmit = (event) => {
    event.preventDefault();
    if (writing) writing.abort();
    else ask();
  };
  $("question").oninput = fit;
  $("question").onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!writing) ask();
  };
  $("new").onclick = () => { cutTurns(0); unchoose(); say(""); showState(); $("question").focus(); };
  $("save").onclick = save;
  $("close").onclick = () => unchoose();
  $("earlier").onclick = () => choose(chosen.turn, chosen.place - 1);
  $("later").onclick = () => choose(chosen.turn, chosen.place + 1);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (writing) writing.abort();
    else if (chosen) unchoose();
    hideTip();
  });
  $("talk").onscroll = () => {
    following = $("talk").scrollHeight - $("talk").scrollTop - $("talk").clientHeight < 60;
    hideTip();
  };
  recall();
  showState();
  fit();
  $("question").focus();
}

start();
