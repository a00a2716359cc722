"use strict";
// Texts of systems and datasets are inserted as textContent only, so none of them can be markup.
(() => {
  const study = JSON.parse(document.getElementById("study").textContent);
  const STORE = `human-eval ${study.study}`;
  const FORMAT = "human-eval ratings 1";
  const WORDS = { A: "A is better", B: "B is better", tie: "Tie" };
  const KEYS = { 1: "A", a: "A", 2: "B", b: "B", 3: "tie", t: "tie" };
  const HINTS = { A: "1", B: "2", tie: "3" };
  const SPEAKERS = { seeker: "Seeker", supporter: "Supporter" };
  const UNDO_KEPT = 2000;
  const byId = (id) => document.getElementById(id);
  const items = new Map(study.items.map((item, index) => [item.name, index]));

  let state = { rater: "", at: 0, keys: true, ratings: {}, undo: [] };
  let shown = null; // index of the instance on the page
  let now = null; // name of the question that keys answer
  let storage = true; // whether this browser allows a page to store data

  // Storage and imported files

  const load = () => {
    try {
      const stored = JSON.parse(localStorage.getItem(STORE) || "null");
      if (stored) state = { ...state, ...stored };
    } catch {
      storage = false;
    }
  };

  const save = () => {
    try {
      localStorage.setItem(STORE, JSON.stringify(state));
    } catch {
      storage = false;
    }
    if (!storage) say("This browser stores nothing for this page: export before you close it.");
  };

  const checked = (file) => {
    if (file === null || typeof file !== "object" || file.format !== FORMAT) throw new Error("this is not a ratings file");
    if (file.study !== study.study) throw new Error(`these are ratings of study ${file.study}, and this is ${study.study}`);
    const ratings = {};
    for (const [name, answers] of Object.entries(file.ratings)) {
      if (!items.has(name)) throw new Error(`there is no instance ${name}`);
      ratings[name] = {};
      for (const [question, verdict] of Object.entries(answers)) {
        const valid = study.questions.some((known) => known.name === question) && study.verdicts.includes(verdict);
        if (!valid) throw new Error(`${name}: ${question} cannot be ${verdict}`);
        ratings[name][question] = verdict;
      }
    }
    return ratings;
  };

  // Queries of the state

  const item = () => study.items[state.at];
  const verdict = (name, question) => (state.ratings[name] || {})[question];
  const about = (what) => study.questions.filter((question) => question.about === what);
  const rated = (name, questions) => questions.every((question) => verdict(name, question.name));
  const thoughtsOpen = () => rated(item().name, about("response"));
  const askable = () => (thoughtsOpen() ? study.questions : about("response"));
  const firstOpen = () => askable().find((question) => !verdict(item().name, question.name));
  const done = () => study.items.filter((each) => rated(each.name, study.questions)).length;

  // Drawing

  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const say = (text) => {
    byId("say").textContent = text;
  };

  const drawFrame = (index, turn, position) => {
    const alt = `Frame ${position + 1} of ${turn.frames.length} while the ${turn.speaker} spoke`;
    const button = element("button", { type: "button", title: "Show larger" }, element("img", { src: study.frames[index], alt }));
    button.addEventListener("click", () => {
      Object.assign(byId("picture").querySelector("img"), { src: study.frames[index], alt });
      byId("picture").showModal();
    });
    return button;
  };

  const drawTurn = (turn) => {
    const line = element("li", { className: turn.speaker }, element("b", { textContent: SPEAKERS[turn.speaker] }));
    if (turn.frames.length) {
      line.append(element("div", { className: "frames" }, ...turn.frames.map((index, position) => drawFrame(index, turn, position))));
    }
    line.append(element("span", { textContent: turn.text }));
    return line;
  };

  // Frames have no height before they are decoded, so the last turn is scrolled to after that.
  const scrollToLastTurn = async () => {
    const decoded = [...byId("history").querySelectorAll("img")].map((picture) => picture.decode().catch(() => null));
    const at = shown;
    await Promise.all(decoded);
    if (at === shown) byId("history").scrollTop = byId("history").scrollHeight;
  };

  const drawText = (id, text, nothing) => {
    byId(id).textContent = text || nothing;
    byId(id).classList.toggle("none", !text);
  };

  const drawQuestion = (question) => {
    const choices = study.verdicts.map((verdict) => {
      const radio = element("input", { type: "radio", name: question.name, value: verdict, id: `${question.name}-${verdict}` });
      radio.addEventListener("change", () => rate(question.name, verdict));
      return element("label", {}, radio, element("span", { textContent: WORDS[verdict] }), element("kbd", { textContent: HINTS[verdict] }));
    });
    const field = element("fieldset", { id: `ask-${question.name}`, tabIndex: -1 }, element("legend", { textContent: question.text }));
    field.append(element("div", { className: "choices" }, ...choices));
    field.addEventListener("focusin", () => {
      now = question.name;
      mark();
    });
    return field;
  };

  const mark = () => {
    for (const question of study.questions) byId(`ask-${question.name}`).classList.toggle("now", question.name === now);
  };

  const show = () => {
    if (shown !== state.at) {
      shown = state.at;
      byId("place").textContent = `Instance ${state.at + 1} of ${study.items.length}`;
      byId("history").replaceChildren(...item().history.map(drawTurn));
      byId("talk").hidden = !item().history.length;
      scrollToLastTurn();
      for (const side of ["A", "B"]) {
        drawText(`response-${side}`, item().answers[side].response, "no response");
        drawText(`thought-${side}`, item().answers[side].thought, "no thinking");
      }
      now = (firstOpen() || study.questions[0]).name;
    }
    for (const question of study.questions) {
      for (const option of study.verdicts) byId(`${question.name}-${option}`).checked = verdict(item().name, question.name) === option;
    }
    byId("thinking").hidden = !about("thought").length;
    byId("thinking-now").hidden = !thoughtsOpen();
    byId("thinking-later").hidden = thoughtsOpen();
    if (!askable().some((question) => question.name === now)) now = firstOpen().name;
    const count = done();
    byId("progress").value = count;
    byId("count").textContent = `${count} of ${study.items.length} rated`;
    byId("export").classList.toggle("ready", count === study.items.length);
    byId("previous").disabled = state.at === 0;
    byId("next").disabled = state.at === study.items.length - 1;
    byId("undo").disabled = !state.undo.length;
    byId("unrated").disabled = count === study.items.length;
    byId("keys").checked = state.keys;
    if (byId("rater").value !== state.rater) byId("rater").value = state.rater;
    mark();
  };

  const reveal = () => byId(`ask-${now}`).scrollIntoView({ block: "nearest" });

  // Actions of the rater

  const remember = (step) => {
    state.undo = [...state.undo, step].slice(-UNDO_KEPT);
  };

  const rate = (question, value) => {
    const before = verdict(item().name, question) || null;
    if (before !== value) {
      remember({ item: item().name, question, before });
      state.ratings[item().name] = { ...state.ratings[item().name], [question]: value };
    }
    const left = firstOpen();
    now = left ? left.name : question;
    const last = done() === study.items.length;
    say(`${WORDS[value]}. ${left ? left.text : last ? "All instances are rated: press Export." : "This instance is rated: press n for the next."}`);
    save();
    show();
  };

  const go = (index) => {
    if (index < 0 || index >= study.items.length) {
      say(index < 0 ? "This is the first instance." : "This is the last instance.");
      return;
    }
    state.at = index;
    say("");
    save();
    show();
    scrollTo({ top: 0, behavior: "instant" });
    byId("place").focus({ preventScroll: true });
  };

  const undo = () => {
    const step = state.undo.at(-1);
    if (!step) {
      say("There is nothing to undo.");
      return;
    }
    state.undo = state.undo.slice(0, -1);
    if (step.all) {
      state.ratings = step.all;
    } else {
      state.at = items.get(step.item);
      const answers = { ...state.ratings[step.item] };
      if (step.before) answers[step.question] = step.before;
      else delete answers[step.question];
      state.ratings[step.item] = answers;
    }
    show();
    now = step.question || now;
    show();
    reveal();
    say(step.all ? "The earlier ratings are back." : `Undone on instance ${state.at + 1}.`);
    save();
  };

  const replaceAll = (ratings) => {
    remember({ all: state.ratings });
    state.ratings = ratings;
    save();
    show();
  };

  const exportRatings = () => {
    if (!state.rater.trim()) {
      say("Enter your name first: ratings are filed under it.");
      byId("rater").focus();
      return;
    }
    const file = { format: FORMAT, study: study.study, rater: state.rater.trim(), exported: new Date().toISOString(), ratings: state.ratings };
    const address = URL.createObjectURL(new Blob([`${JSON.stringify(file, null, 1)}\n`], { type: "application/json" }));
    const plain = file.rater.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    element("a", { href: address, download: `ratings_${study.study}_${plain}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    say(`Exported ${done()} of ${study.items.length} instances. Send that file.`);
  };

  const importRatings = async () => {
    const [file] = byId("file").files;
    byId("file").value = "";
    if (!file) return;
    try {
      const read = JSON.parse(await file.text());
      const ratings = checked(read);
      state.rater = state.rater || String(read.rater || "");
      replaceAll(ratings);
      say(`Imported: ${done()} of ${study.items.length} instances are rated. Undo brings the earlier ratings back.`);
    } catch (error) {
      say(`Not imported: ${error instanceof SyntaxError ? "this file is not JSON" : error.message}.`);
    }
  };

  const press = (event) => {
    const typing = event.target.matches("input[type=text]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || !state.keys) return;
    const key = event.key.toLowerCase();
    if (KEYS[key]) {
      rate(now, KEYS[key]);
      byId(`ask-${now}`).focus({ preventScroll: true }); // the group, because a ring around a single choice would suggest it
      reveal();
    } else if (key === "n") go(state.at + 1);
    else if (key === "p") go(state.at - 1);
    else if (key === "u") undo();
    else if (key === "?") byId("help").showModal();
    else return;
    event.preventDefault();
  };

  for (const question of study.questions) byId(`about-${question.about}`).append(drawQuestion(question));
  const clicks = {
    undo, export: exportRatings, import: () => byId("file").click(), "open-help": () => byId("help").showModal(),
    "close-help": () => byId("help").close(), "close-picture": () => byId("picture").close(),
    previous: () => go(state.at - 1), next: () => go(state.at + 1),
    unrated: () => go(study.items.findIndex((each) => !rated(each.name, study.questions))),
    clear: () => {
      replaceAll({});
      byId("help").close();
      say("All ratings are cleared. Undo brings them back.");
    },
  };
  for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
  byId("file").addEventListener("change", importRatings);
  byId("rater").addEventListener("input", () => {
    state.rater = byId("rater").value;
    save();
  });
  byId("keys").addEventListener("change", () => {
    state.keys = byId("keys").checked;
    save();
  });
  document.addEventListener("keydown", press);
  addEventListener("storage", (event) => {
    if (event.key === STORE) {
      load();
      show();
    }
  });

  load();
  if (!(state.at >= 0 && state.at < study.items.length)) state.at = 0;
  show();
  if (!Object.keys(state.ratings).length) byId("help").showModal();
})();
