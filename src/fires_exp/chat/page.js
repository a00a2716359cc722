"use strict";

// Text of the model and of users is inserted through textContent only, so none of it is ever parsed as HTML.

const byId = (id) => document.getElementById(id);
let key = "";

function append(parent, tag, text, className) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  parent.append(element);
  return element;
}

function appendTurn(className, speaker, text) {
  const article = append(byId("talk"), "article", "", className);
  append(article, "h2", speaker);
  const paragraph = append(article, "p", text);
  article.scrollIntoView({ block: "end" });
  return { article, paragraph };
}

async function post(path, body, headers) {
  const response = await fetch(path, { method: "POST", headers, body });
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || `the server answers ${response.status}`);
  return response;
}

const postJson = (path, content) => post(path, JSON.stringify(content), { "content-type": "application/json" });

async function start() {
  const session = await (await postJson("start", {})).json();
  key = session.key;
  byId("notice").textContent = session.notice;
  byId("model").textContent = session.model;
  byId("talk").replaceChildren();
  byId("video").value = "";
  byId("state").textContent = "";
  byId("text").focus();
}

async function* jsonLines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
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
  const texts = [];
  if (!reply.well_formed) texts.push("the completion does not have the trained form");
  if (reply.cut_off) texts.push("cut off at decoding.max_new_tokens");
  if (reply.dropped_turns) texts.push(`the ${reply.dropped_turns} oldest turns no longer fit into the prompt`);
  if (reply.frames) texts.push(`frames: ${reply.frames}`);
  return texts.join("; ");
}

async function send(text) {
  appendTurn("seeker", "Seeker", text);
  const { article, paragraph } = appendTurn("supporter", "Supporter", "…");
  let thought = null;
  try {
    const file = byId("video").files[0];
    if (file) await post("video", file, { "x-key": key });
    for await (const reply of jsonLines(await postJson("send", { key, text }))) {
      if (reply.error) throw new Error(reply.error);
      if (reply.thought && !thought) {
        const details = document.createElement("details");
        append(details, "summary", "Thought");
        thought = append(details, "p", "");
        article.insertBefore(details, paragraph);
      }
      if (thought) thought.textContent = reply.thought;
      paragraph.textContent = reply.response || "…";
      if (reply.complete && notes(reply)) append(article, "p", notes(reply), "aside");
    }
    byId("video").value = "";
  } catch (error) {
    article.className = "problem";
    paragraph.textContent = error.message;
    byId("text").value = text;
  }
  article.scrollIntoView({ block: "end" });
}

function setBusy(isBusy) {
  for (const id of ["send", "new", "video"]) byId(id).disabled = isBusy;
  byId("state").textContent = isBusy ? "the model replies …" : "";
}

const showError = (error) => (byId("state").textContent = error.message);

byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text || byId("send").disabled) return;
  byId("text").value = "";
  setBusy(true);
  await send(text);
  setBusy(false);
  byId("text").focus();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("form").requestSubmit();
  }
});
byId("new").addEventListener("click", () => start().catch(showError));
start().catch(showError);
