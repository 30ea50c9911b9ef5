// Differences of two answers, and of an ideal answer from the one it started from. Loaded when first asked for.
// sending.js comes first.

/**
 * Show what the server answers in `box`: the difference, or in words why there is none. Gives the text of its summary, or null
 * when another request overtook this one.
 */
async function show(box, request, lost) {
  const round = String(Number(box.dataset.round ?? 0) + 1);
  box.dataset.round = round;
  box.setAttribute("aria-busy", "true");
  let answer;
  try {
    answer = await readAnswer(await request);
  } catch {
    answer = { message: lost };
  }
  if (box.dataset.round !== round) return null;
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

/** Compare the two answers that are chosen in the dialog, and again whenever others are. */
export async function showDifference(dialog, lost) {
  const [first, second] = dialog.querySelectorAll("select");
  const url = first.closest("[data-difference-url]").dataset.differenceUrl;
  async function compare() {
    const query = new URLSearchParams({ a: first.value, b: second.value });
    const answer = fetch(`${url}?${query}`, { headers: { "HX-Request": "true" } });
    const summary = await show(dialog.querySelector(".difference"), answer, lost);
    if (summary !== null) dialog.querySelector('[role="status"]').textContent = summary;
  }
  [first.onchange, second.onchange] = [compare, compare];
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
