// The ranking page: what is picked, what stands where, and how it reaches the server.
// placing.js, sending.js, afterwards.js and dialogs.js come first; the server's way is in docs/architecture.md ("One ranking's way").

const taskBox = byId("task");
const urls = byId("rank-urls").dataset;

let form = null;
let order = makeOrder([], false);
let picked = null;
let allBad = false;
let busy = false;
let unfolded = false;

// The order

const isPair = () => order.letters.length === 2;
const isComplete = () => allBad || order.unplaced().length === 0;
const isReady = () => allBad || (isComplete() && ratingsLeft(form).length === 0);

/** What is still to be done, in words. */
function whatIsLeft() {
  if (allBad) return phrase("allBad");
  if (!isComplete()) return isPair() ? phrase("choose") : phrase("left", { letters: order.unplaced().join(", ") });
  return isReady() ? phrase("complete") : phrase("toRate", { count: ratingsLeft(form).length });
}

function put(letter, index) {
  const count = order.letters.length;
  if (index >= count) return say(phrase("noSuchPlace", { count }));
  allBad = false;
  order.put(letter, index);
  return placed(letter);
}

function placed(letter) {
  picked = null;
  changed();
  const others = order.tiedWith(letter);
  const best = order.dense()[0];
  if (isPair()) return say(phrase(others ? "equal" : "better", { letter: best[0] }), whatIsLeft());
  return say(
    phrase(others ? "tied" : "placed", { letter, place: order.placeOf(letter) + 1, others }),
    whatIsLeft(),
  );
}

/** Of two answers, the better one's letter, or "=" when they are equally good. */
function prefer(choice) {
  if (!form.querySelector(`[data-prefer="${choice}"]`)) return undefined;
  allBad = false;
  if (choice !== "=") return put(choice, 0);
  order.tie();
  return placed(order.letters[0]);
}

function unplace(letter) {
  if (order.placeOf(letter) < 0) return;
  order.lift(letter);
  changed();
  say(phrase("unplaced", { letter }));
}

function pick(letter, { focus = false } = {}) {
  picked = picked === letter ? null : letter;
  draw();
  say(phrase(picked ? "picked" : "dropped", { letter }));
  if (!focus) return;
  const button = form.querySelector(`[data-pick="${letter}"]`);
  button.focus({ preventScroll: true });
  button.scrollIntoView({ block: "nearest" });
}

function toggleAllBad() {
  if (!form.querySelector('[data-act="allBad"]')) return;
  allBad = !allBad;
  picked = null;
  changed();
  say(phrase(allBad ? "allBad" : "notAllBad"));
}

// What is seen

function chip(letter) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.dataset.chip = letter;
  button.textContent = letter;
  button.setAttribute("aria-pressed", String(picked === letter));
  button.setAttribute("aria-label", byId(`name-${letter}`).textContent);
  button.setAttribute("aria-describedby", `state-${letter}`);
  return button;
}

function stateOf(letter) {
  const index = order.placeOf(letter);
  if (picked === letter) return phrase("statePicked");
  if (index < 0) return isPair() ? "" : phrase("stateFree");
  const others = order.tiedWith(letter);
  if (isPair()) return phrase(others ? "stateEqual" : index === 0 ? "stateBetter" : "stateWorse");
  return phrase(others ? "stateTied" : "statePlaced", { place: index + 1, others });
}

function draw() {
  const focused = document.activeElement?.dataset?.chip;
  form.classList.toggle("all-bad", allBad);
  form.classList.toggle("picking", picked !== null);
  form.classList.toggle("complete", isComplete());
  for (const card of form.querySelectorAll(".card")) {
    const letter = card.dataset.letter;
    const index = order.placeOf(letter);
    card.classList.toggle("picked", picked === letter);
    card.classList.toggle("placed", index >= 0);
    card.querySelector(".pick").setAttribute("aria-pressed", String(picked === letter));
    byId(`state-${letter}`).textContent = stateOf(letter);
    for (const button of card.querySelectorAll("[data-put]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.put) - 1 === index));
    }
  }
  for (const place of form.querySelectorAll(".place")) {
    const here = order.all()[place.dataset.place - 1];
    place.classList.toggle("taken", here.length > 0);
    place.querySelector(".chips").replaceChildren(...here.map(chip));
  }
  const left = order.unplaced();
  const tray = form.querySelector("[data-tray]");
  tray?.classList.toggle("bare", left.length === 0);
  tray?.querySelector(".chips").replaceChildren(...left.map(chip));
  const better = isPair() && left.length === 0 && !allBad ? order.dense() : [];
  for (const button of form.querySelectorAll("[data-prefer]")) {
    const chosen = better.length === 1 ? "=" : better[0]?.[0];
    button.setAttribute("aria-pressed", String(button.dataset.prefer === chosen));
  }
  form.querySelector('[data-act="allBad"]')?.setAttribute("aria-pressed", String(allBad));
  byId("submit").setAttribute("aria-disabled", String(!isReady()));
  byId("finish-state").textContent = whatIsLeft();
  const afterwards = byId("afterwards");
  if (afterwards && isComplete()) afterwards.hidden = false;
  if (focused) form.querySelector(`[data-chip="${focused}"]`)?.focus({ preventScroll: true });
}

function changed() {
  draw();
  drafts.touch();
}

/** Long answers share one height; only what is cut off says so. */
function fold() {
  const cards = byId("cards");
  if (!cards) return;
  cards.classList.remove("unfolded");
  let anyLong = false;
  for (const card of cards.children) {
    const answer = card.querySelector(".answer");
    const isLong = answer.scrollHeight > answer.clientHeight + 12;
    anyLong ||= isLong;
    card.classList.toggle("long", isLong);
    const button = card.querySelector(".unfold");
    button.hidden = !isLong;
    button.textContent = unfolded
      ? phrase("fold")
      : `${phrase("showAll")} · ${phrase("words", { count: answer.dataset.words })}`;
  }
  cards.classList.toggle("unfolded", unfolded && anyLong);
}

// To the server

function readDraft() {
  if (!form) return null;
  const draft = {
    verdict: allBad ? "all_bad" : "ranked",
    places: order.all(),
    ...readAfterwards(form),
  };
  if (ideal.begun()) draft.ideal = ideal.begun();
  return { url: form.dataset.draftUrl, token: form.dataset.token, draft };
}

let draftRefusal = 0; // the status of the refused draft that the trouble box speaks of

const drafts = draftSaver(readDraft, (state) => {
  if (typeof state === "object") {
    // It is tried again by and by; once is enough to say so.
    if (state.status !== draftRefusal) showRefusal(state);
    draftRefusal = state.status;
    return;
  }
  const words = {
    changed: "",
    saved: phrase("draftSaved"),
    partly: phrase("draftPartly"),
    waiting: phrase("draftWaiting"),
  };
  Object.assign(byId("draft-state"), { textContent: words[state], className: state });
  if (!draftRefusal || !["saved", "partly"].includes(state)) return;
  draftRefusal = 0;
  trouble.hidden = true;
});

/** Post something that answers with the next task, and show it. The server does each of them once, however often asked. */
async function goOn(url, fields, done) {
  if (busy) return;
  busy = true;
  draftRefusal = 0;
  drafts.stop();
  const label = byId("submit")?.querySelector("span");
  const slow = setTimeout(() => { if (label) label.textContent = phrase("sending"); }, 400);
  let answer;
  try {
    answer = await postUntilAnswered(url, fields, (tryNow) => {
      const lost = phrase(done === "saved" ? "connectionLost" : "connectionLostRetried");
      showTrouble(lost, { button: phrase("tryNow"), act: tryNow });
    });
  } catch {
    answer = { status: 0, message: phrase("connectionLostPlain") };
  }
  clearTimeout(slow);
  busy = false;
  if (label) label.textContent = phrase("submit");
  if (answer.status !== 200) {
    showRefusal(answer);
    if (form) drafts.touch();
    return;
  }
  trouble.hidden = true;
  if (done === "saved") remember();
  if (form && done !== "undone") drafts.drop(form.dataset.token);
  taskBox.innerHTML = answer.html;
  begin();
  scrollTo(0, 0);
  (byId("task-head") ?? byId("no-task"))?.focus({ preventScroll: true });
  say(byId("task").querySelector("[data-spoken]")?.dataset.spoken ?? phrase(done));
}

function fields(values) {
  const data = new FormData();
  data.set("token", form?.dataset.token ?? "");
  for (const [name, value] of Object.entries(values)) data.set(name, value);
  return data;
}

async function submit() {
  if (busy || !form) return;
  if (!isReady()) {
    if (isComplete()) focusRatings(form);
    return say(whatIsLeft());
  }
  const { comment, reasons, ratings } = readAfterwards(form);
  const data = fields({
    verdict: allBad ? "all_bad" : "ranked",
    places: JSON.stringify(allBad ? [] : order.dense()),
    comment,
    ratings: JSON.stringify(ratings),
  });
  for (const reason of reasons) data.append("reasons", reason);
  await goOn(form.dataset.submitUrl, data, "saved");
}

const ideal = idealWriter({
  rawText: (letter) => letter ? JSON.parse(form.querySelector(`[data-letter="${letter}"] > script`).textContent) : "",
  source: urls.comparingSrc,
  touched: () => drafts.touch(),
});

/** The answer that is picked or has the focus, or null. */
const nearby = () => picked ?? document.activeElement?.closest?.(".card")?.dataset.letter ?? null;

const acts = {
  async undo() {
    const button = taskBox.querySelector('[data-act="undo"]');
    if (!button || button.disabled || busy) return;
    await drafts.flush();
    // Names what it takes back, so that asking twice takes back one ranking.
    await goOn(urls.undoUrl, fields({ token: button.dataset.token }), "undone");
  },
  skip() {
    if (order.dense().length > 0 || allBad) byId("skip-dialog").showModal();
    else goOn(form.dataset.skipUrl, fields({}), "skipped");
  },
  flag() { byId("flag-dialog").showModal(); },
  keys() { byId("keys-dialog").showModal(); },
  ideal() { ideal.open(nearby() ?? ""); },
  allBad: toggleAllBad,
  comment() {
    if (!form.elements.comment) return;
    byId("afterwards").hidden = false;
    form.elements.comment.focus();
  },
  rate() {
    if (!form.querySelector(".rating")) return;
    byId("afterwards").hidden = false;
    focusRatings(form);
  },
  unfold() {
    unfolded = !unfolded;
    fold();
  },
  compare() {
    const a = nearby() ?? order.letters[0];
    openDifferences(urls.comparingSrc, a, order.letters[(order.letters.indexOf(a) + 1) % order.letters.length]);
  },
  guidelines() { openGuidelines(urls.guidelinesUrl); },
};

// Dialogs

// "toggle" does not bubble.
taskBox.addEventListener("toggle", (event) => { if (event.target.matches(".edit")) ideal.showChange(); }, { capture: true });

taskBox.addEventListener("change", (event) => {
  if (event.target.name === "edited_from") ideal.startFrom(event.target.value);
  else if (event.target.name === "reasons") changed();
});

taskBox.addEventListener("input", (event) => {
  if (event.target.name === "comment" && event.target.form === form) drafts.touch();
  if (event.target.name === "text") ideal.typed();
});

async function sendDialog(dialog, dialogForm) {
  const data = new FormData(dialogForm);
  data.set("token", form.dataset.token);
  if (dialogForm.dataset.dialogForm !== "ideal") {
    dialog.close();
    await goOn(dialogForm.action, data, dialogForm.dataset.dialogForm === "flag" ? "flagged" : "skipped");
  } else if (await sendInDialog(dialogForm, data)) {
    dialog.close();
    dialogForm.reset();
    ideal.restore(null);
    changed();
    say(phrase("idealSaved"));
    byId("draft-state").textContent = phrase("idealSaved");
  }
}

document.addEventListener("submit", (event) => {
  if (event.target === form) {
    event.preventDefault();
    submit();
  } else if (event.target.dataset.dialogForm) {
    event.preventDefault();
    sendDialog(event.target.closest("dialog"), event.target);
  }
});

// Mouse, finger and keys

document.addEventListener("click", (event) => {
  const { target } = event;
  if (target.closest("[data-close]")) return target.closest("dialog").close();
  if (target.nodeName === "DIALOG" && target.contains(document.activeElement) && event.detail && outside(target, event)) return target.close();
  if (target.matches(".rating input")) {
    const group = target.closest(".rating");
    rate(group, group.dataset.value === target.value ? "" : target.value);
    return changed();
  }
  const act = target.closest("[data-act]")?.dataset.act;
  if (act && !busy) return acts[act]();
  if (!form || busy || !form.contains(target)) return undefined;
  const place = target.closest(".place");
  const letter = target.closest("[data-chip]")?.dataset.chip ?? target.closest("[data-pick]")?.dataset.pick;
  const preferred = target.closest("[data-prefer]");
  if (preferred) return prefer(preferred.dataset.prefer);
  const digit = target.closest("[data-put]");
  if (digit) {
    const card = digit.closest(".card").dataset.letter;
    return digit.getAttribute("aria-pressed") === "true" ? unplace(card) : put(card, digit.dataset.put - 1);
  }
  if (place && picked && picked !== letter) return put(picked, place.dataset.place - 1);
  if (letter) return pick(letter);
  if (place) return say(phrase("pickFirst"));
  return undefined;
});

function outside(dialog, event) {
  const box = dialog.getBoundingClientRect();
  return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
}

draggable({
  grip: (element) => {
    if (busy || !form?.contains(element) || isPair() || element.closest(".puts")) return null;
    return element.closest("[data-chip]")?.dataset.chip ?? element.closest(".card-head")?.parentElement.dataset.letter ?? null;
  },
  target: (element) => element?.closest?.(".place, .gap, [data-tray]") ?? null,
  start: (letter) => { picked = letter; draw(); },
  end: () => { picked = null; draw(); },
  drop: (letter, target) => {
    if (target.matches(".place")) return put(letter, target.dataset.place - 1);
    if (target.matches("[data-tray]")) return unplace(letter);
    allBad = false;
    order.insert(letter, Number(target.dataset.gap));
    return placed(letter);
  },
});

const commands = {
  S: "skip", F: "flag", E: "ideal", C: "comment", U: "undo", G: "guidelines", R: "rate", X: "allBad", 0: "allBad", L: "unfold", V: "compare", "?": "keys",
};

function moveFocus(step) {
  const inDock = document.activeElement?.closest(".dock");
  const stops = [...form.querySelectorAll(inDock ? ".order .chip, .place-button, [data-prefer]" : ".pick")];
  const at = stops.indexOf(document.activeElement?.closest(".card")?.querySelector(".pick") ?? document.activeElement);
  const next = stops[at < 0 ? (step > 0 ? 0 : stops.length - 1) : (at + step + stops.length) % stops.length];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "nearest" });
}

function pressDigit(digit) {
  if (picked) return put(picked, digit - 1);
  return isPair() ? prefer(order.letters[digit - 1]) : say(phrase("pickFirst"));
}

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  // A field keeps the focus until the next frame after its dialog has closed: the keys pressed by then are meant for the page.
  if (target.closest("textarea, select, input:not([type=checkbox], [type=radio])") && !target.closest("dialog")) {
    if (key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    else if (key === "Escape") target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest(".site-head")) return;
  if (key === "Enter") {
    const ours = !target.closest("button, a, summary, input") || target.closest(".pick, .chip, .place-button, .puts, .verdicts");
    if (!ours || !form) return;
    if (isComplete() || !target.closest("button")) {
      event.preventDefault();
      if (!event.repeat) submit();
    }
    return;
  }
  if (event.repeat || busy) return;
  const rating = target.closest(".rating");
  if (rating) {
    if (key.startsWith("Arrow")) return;
    const pressed = pressInRating(rating, key);
    if (pressed) changed();
    if (pressed !== null) return event.preventDefault();
  }
  const name = key.length === 1 ? key.toUpperCase() : key;
  if (form && order.letters.includes(name) && !event.shiftKey) pick(name, { focus: true });
  else if (form && /^[1-9]$/.test(key)) pressDigit(Number(key));
  else if (form && key === "=") prefer("=");
  else if (commands[name] && (form || name === "U" || name === "G")) acts[commands[name]]();
  else if (form && (key === "Delete" || key === "Backspace")) unplace(target.dataset.chip ?? picked ?? target.closest(".card")?.dataset.letter);
  else if (form && (key === "ArrowLeft" || key === "ArrowRight")) moveFocus(key === "ArrowRight" ? 1 : -1);
  else if (form && key === "Escape" && picked) pick(picked);
  else return;
  event.preventDefault();
});

// A task begins

function remember() {
  try { localStorage.setItem("podium-ranked", "yes"); } catch { /* the hint stays, no harm */ }
}

function isNewcomer() {
  try { return !localStorage.getItem("podium-ranked"); } catch { return false; }
}

function restore(draft) {
  order.load(draft?.places ?? []);
  allBad = draft?.verdict === "all_bad";
  ideal.restore(draft?.ideal ?? null);
  fillAfterwards(form, draft);
}

const resized = new ResizeObserver(() => fold());
// So that what gets the focus is never scrolled behind the dock.
const grown = new ResizeObserver(([dock]) => {
  document.documentElement.style.setProperty("--dock", `${dock.target.offsetHeight}px`);
});

function begin() {
  drafts.stop();
  form = byId("ranking");
  picked = null;
  allBad = false;
  resized.disconnect();
  grown.disconnect();
  if (!form) return;
  const letters = [...form.querySelectorAll(".card")].map((card) => card.dataset.letter);
  order = makeOrder(letters, form.hasAttribute("data-ties"));
  const unsaved = drafts.unsaved(form.dataset.token);
  restore(unsaved ?? JSON.parse(byId("draft").textContent));
  for (const element of taskBox.querySelectorAll("[data-key]")) {
    const key = element.dataset.key;
    element.textContent = letters.includes(key) ? `⇧${key}` : key;
  }
  byId("first-hint").hidden = !isNewcomer();
  draw();
  if (unsaved) drafts.touch();
  resized.observe(byId("cards"));
  grown.observe(form.querySelector(".dock"));
  const turns = form.querySelector(".turns");
  const last = turns.querySelector("[data-last]");
  if (last && turns.scrollHeight > turns.clientHeight) turns.scrollTop = last.offsetTop - turns.offsetTop;
}

begin();
