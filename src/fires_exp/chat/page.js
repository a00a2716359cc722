"use strict";

// All text of the model and of people goes in through textContent, so none of it is ever read as HTML.

const place = (id) => document.getElementById(id);
let key = "";

function piece(parent, tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}

function turn(kind, name, text) {
  const article = piece(place("talk"), "article", "", kind);
  piece(article, "h2", name);
  const said = piece(article, "p", text);
  article.scrollIntoView({ block: "end" });
  return { article, said };
}

async function ask(path, body, headers) {
  const answer = await fetch(path, { method: "POST", headers, body });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || `the server answers ${answer.status}`);
  return answer;
}

const askJson = (path, facts) => ask(path, JSON.stringify(facts), { "content-type": "application/json" });

async function start() {
  const facts = await (await askJson("start", {})).json();
  key = facts.key;
  place("notice").textContent = facts.notice;
  place("model").textContent = facts.model;
  place("talk").replaceChildren();
  place("video").value = "";
  place("state").textContent = "";
  place("text").focus();
}

async function* linesOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

function notes(reply) {
  const all = [];
  if (!reply.well_formed) all.push("the answer has not the form that was trained");
  if (reply.cut_off) all.push("it was cut off");
  if (reply.dropped_turns) all.push(`the ${reply.dropped_turns} oldest turns no longer fit`);
  if (reply.frames) all.push(`frames seen: ${reply.frames}`);
  return all.join("; ");
}

async function say(text) {
  turn("seeker", "Seeker", text);
  const { article, said } = turn("supporter", "Supporter", "…");
  let thought = null;
  try {
    const file = place("video").files[0];
    if (file) await ask("video", file, { "x-key": key });
    for await (const reply of linesOf(await askJson("say", { key, text }))) {
      if (reply.error) throw new Error(reply.error);
      if (reply.thought && !thought) {
        const fold = document.createElement("details");
        piece(fold, "summary", "Thought");
        thought = piece(fold, "p", "");
        article.insertBefore(fold, said);
      }
      if (thought) thought.textContent = reply.thought;
      said.textContent = reply.response || "…";
      if (reply.whole && notes(reply)) piece(article, "p", notes(reply), "aside");
    }
    place("video").value = "";
  } catch (error) {
    article.className = "problem";
    said.textContent = error.message;
    place("text").value = text;
  }
  article.scrollIntoView({ block: "end" });
}

function busy(now) {
  for (const id of ["send", "new", "video"]) place(id).disabled = now;
  place("state").textContent = now ? "the model answers …" : "";
}

place("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = place("text").value.trim();
  if (!text || place("send").disabled) return;
  place("text").value = "";
  busy(true);
  await say(text);
  busy(false);
  place("text").focus();
});
place("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    place("form").requestSubmit();
  }
});
place("new").addEventListener("click", () => start().catch((error) => (place("state").textContent = error.message)));
start().catch((error) => (place("state").textContent = error.message));
