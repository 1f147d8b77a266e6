// The editor: a textarea over its coloured copy.  It indents new lines, and keeps the browser's own undo.
const code = element("code");

const WORDS = "False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|" +
  "global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield|match|case";
const TOKENS = new RegExp([
  "(?<comment>#[^\\n]*)",
  "(?<string>\\b[rbfuRBFU]{0,2}(?:'''[^]*?(?:'''|$)|\"\"\"[^]*?(?:\"\"\"|$)|'(?:\\\\.|[^'\\\\\\n])*'?|\"(?:\\\\.|[^\"\\\\\\n])*\"?)|" +
    "'''[^]*?(?:'''|$)|\"\"\"[^]*?(?:\"\"\"|$)|'(?:\\\\.|[^'\\\\\\n])*'?|\"(?:\\\\.|[^\"\\\\\\n])*\"?)",
  `(?<keyword>\\b(?:${WORDS})\\b)`,
  "(?<number>\\b(?:0[xXoObB][\\da-fA-F_]+|\\d[\\d_]*\\.?[\\d_]*(?:[eE][+-]?\\d+)?j?)\\b)",
  "\\w+",
].join("|"), "g");

function paint() {
  const text = code.value, parts = [];
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    const kind = Object.keys(match.groups).find(name => match.groups[name] !== undefined);
    if (!kind) continue;
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = match[0];
    parts.push(text.slice(end, match.index), span);
    end = match.index + match[0].length;
  }
  element("colours").replaceChildren(...parts, text.slice(end) + "\n");
  element("lines").textContent = text.split("\n").map((_, i) => i + 1).join("\n") + "\n";
}

function markLine(line) {
  const mark = element("mark");
  mark.hidden = !line;
  mark.style.top = `calc(${Math.max(line - 1, 0)}lh)`;
}

function write(text) {  // as if typed, so that it can be undone
  code.focus();
  if (!document.execCommand(text ? "insertText" : "delete", false, text)) {
    code.setRangeText(text, code.selectionStart, code.selectionEnd, "end");
    code.dispatchEvent(new Event("input"));
  }
}

function writeAll(text) {
  if (code.value === text) return;
  code.select();
  write(text);
  code.setSelectionRange(0, 0);
  code.closest(".editor").scrollTo(0, 0);
}

function indent(deeper) {
  const start = code.value.lastIndexOf("\n", code.selectionStart - 1) + 1;
  const to = Math.max(code.selectionEnd - (code.selectionEnd > code.selectionStart && code.value[code.selectionEnd - 1] === "\n"), start);
  const end = (code.value + "\n").indexOf("\n", to);
  const lines = code.value.slice(start, end).split("\n").map(line =>
    !deeper ? line.replace(/^ {1,4}/, "") : line ? "    " + line : line).join("\n");
  if (lines === code.value.slice(start, end)) return;
  code.setSelectionRange(start, end);
  write(lines);
  code.setSelectionRange(start, start + lines.length);
}

code.addEventListener("keydown", event => {
  const control = event.ctrlKey || event.metaKey;
  const line = code.value.slice(code.value.lastIndexOf("\n", code.selectionStart - 1) + 1, code.selectionStart);
  if (event.isComposing) return;
  if (control && (event.key === "]" || event.key === "[")) indent(event.key === "]");
  else if (event.key === "Enter" && !control && !event.shiftKey)
    write("\n" + line.match(/^ */)[0] + (/:\s*(#.*)?$/.test(line) ? "    " : ""));
  else if (event.key === "Backspace" && !control && code.selectionStart === code.selectionEnd && /^(    )+$/.test(line)) {
    code.setSelectionRange(code.selectionStart - 4, code.selectionStart);
    write("");
  } else return;
  event.preventDefault();
});
code.addEventListener("input", paint);
