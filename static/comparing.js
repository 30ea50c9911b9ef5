// Differences of two answers, and of an ideal answer from the one it started from. Loaded when first asked for.
// sending.js comes first.

/** Show what the server answers in `box`: the difference, or in words why there is none. Gives the text of its summary. */
async function show(box, request, lost) {
  box.setAttribute("aria-busy", "true");
  let answer;
  try {
    answer = await readAnswer(await request);
  } catch {
    answer = { message: lost };
  }
  box.removeAttribute("aria-busy");
  if (answer.status === 200) {
    box.innerHTML = answer.html;
    return box.querySelector(".difference-summary").textContent;
  }
  const words = document.createElement("p");
  words.textContent = answer.message ?? lost;
  box.replaceChildren(words);
  return words.textContent;
}

/** Open the dialog on the answers `a` and `b`; what is chosen there is compared at once. */
export async function openDifference(dialog, { a, b, lost }) {
  const [first, second] = dialog.querySelectorAll("select");
  const url = first.closest("[data-difference-url]").dataset.differenceUrl;
  async function compare() {
    const query = new URLSearchParams({ a: first.value, b: second.value });
    const summary = await show(dialog.querySelector(".difference"), fetch(`${url}?${query}`, { headers: { "HX-Request": "true" } }), lost);
    dialog.querySelector('[role="status"]').textContent = summary;
  }
  [first.value, second.value] = [a, b];
  [first.onchange, second.onchange] = [compare, compare];
  dialog.showModal();
  await compare();
}

let typing = null;

/** Show what was changed in the ideal answer so far, and again a moment after each further change while it is open. */
export function showEdit(details, lost) {
  clearTimeout(typing);
  if (!details.open) return;
  const { text, edited_from: from } = details.closest("form").elements;
  const body = new FormData();
  body.set("text", text.value);
  body.set("edited_from", from.value);
  const compare = () => show(details.querySelector(".difference"), post(details.dataset.differenceUrl, body), lost);
  typing = setTimeout(compare, 400);
}
