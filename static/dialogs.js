// What the ranking page says, in words, in its trouble box and in its dialogs. sending.js comes first.
"use strict";

const byId = (id) => document.getElementById(id);
const phrases = byId("phrases").dataset;
const trouble = byId("trouble");

function phrase(name, values = {}) {
  return phrases[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

function say(...sentences) {
  const live = byId("live");
  live.textContent = "";
  // A repeated sentence is spoken again only if the text changes.
  requestAnimationFrame(() => { live.textContent = sentences.join(" "); });
}

function showTrouble(message, { link = null, button = null, act = null } = {}) {
  const text = document.createElement("p");
  text.textContent = message;
  trouble.replaceChildren(text);
  if (link) {
    const anchor = document.createElement("a");
    Object.assign(anchor, { href: phrases.loginUrl, target: "_blank", rel: "noopener", textContent: link });
    trouble.append(anchor);
  }
  if (button) {
    const element = document.createElement("button");
    Object.assign(element, { type: "button", textContent: button });
    element.addEventListener("click", act);
    trouble.append(element);
  }
  trouble.hidden = false;
}

function showRefusal(answer) {
  if (answer.status === 401) return showTrouble(phrase("signedOut"), { link: phrase("signIn") });
  if (answer.status === 409) {
    return showTrouble(answer.message, { button: phrase("goOn"), act: () => location.reload() });
  }
  return showTrouble(answer.message ?? phrase("failed", { status: answer.status }));
}

/** Fill the guidelines, once, and open them. */
async function openGuidelines(url) {
  const body = byId("guidelines-body");
  byId("guidelines-dialog").showModal();
  if (body.dataset.fetched) return;
  try {
    const answer = await readAnswer(await fetch(url, { headers: { "HX-Request": "true" } }));
    if (answer.status !== 200) throw new TypeError("no guidelines");
    body.innerHTML = answer.html;
    body.dataset.fetched = "yes";
  } catch {
    body.textContent = phrase("connectionLostPlain");
  }
}

/** Open the differences of the answers `a` and `b`. `source` is where the script that fetches them lies. */
async function openDifferences(source, a, b) {
  const dialog = byId("difference-dialog");
  const [first, second] = dialog.querySelectorAll("select");
  [first.value, second.value] = [a, b];
  // At once, so that the keys pressed while the rest is loaded are the dialog's.
  dialog.showModal();
  try {
    const { showDifference } = await import(source);
    await showDifference(dialog, phrase("connectionLostPlain"));
  } catch {
    dialog.querySelector(".difference").textContent = phrase("connectionLostPlain");
  }
}

/** Post a dialog's form that is answered by nothing; what is refused is said in the dialog. Gives whether it was taken. */
async function sendInDialog(dialogForm, data) {
  const error = dialogForm.querySelector(".field-error");
  error.hidden = true;
  try {
    const answer = await readAnswer(await post(dialogForm.action, data));
    if (answer.status === 204) return true;
    error.textContent = answer.message ?? phrase(answer.status === 401 ? "signedOut" : "failed", answer);
  } catch {
    error.textContent = phrase("connectionLostPlain");
  }
  error.hidden = false;
  return false;
}

/**
 * The dialog in which an ideal answer is written. `rawText(letter)` gives an answer as it was written, "" without a letter;
 * `source` is where the script lies that shows what was changed; `touched()` is called when something was typed.
 */
function idealWriter({ rawText, source, touched }) {
  let begun = null; // {text, from}: begun and not saved

  const fields = () => byId("ideal-dialog").querySelector("form").elements;

  async function showChange() {
    const details = byId("ideal-dialog").querySelector(".edit");
    if (!details.open) return;
    try {
      const { showEdit } = await import(source);
      showEdit(details, phrase("connectionLostPlain"));
    } catch {
      details.querySelector(".difference").textContent = phrase("connectionLostPlain");
    }
  }

  return {
    begun: () => begun,
    showChange,
    /** Take over what a draft holds; null for nothing. */
    restore(saved) {
      begun = saved;
      if (begun) [fields().text.value, fields().edited_from.value] = [begun.text, begun.from];
    },
    open(letter) {
      const { text, edited_from: from } = fields();
      if (!begun) {
        from.value = letter;
        text.value = text.dataset.prefilled = rawText(letter);
      }
      byId("ideal-dialog").showModal();
      text.focus();
      if (!begun) text.setSelectionRange(0, 0);
      text.scrollTop = 0;
    },
    /** Another answer to start from was chosen: it replaces the text unless something was written. */
    startFrom(letter) {
      const { text } = fields();
      if (!text.value || text.value === text.dataset.prefilled) text.value = text.dataset.prefilled = rawText(letter);
      showChange();
    },
    typed() {
      begun = { text: fields().text.value, from: fields().edited_from.value };
      showChange();
      touched();
    },
  };
}
