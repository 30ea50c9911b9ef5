// What is asked after the order, each where the project asks for it: ratings, reasons, a comment.
"use strict";

/** `{comment, reasons, ratings: {letter: {criterion: 1 to 5}}}` as it stands in the form. */
function readAfterwards(form) {
  const ratings = {};
  for (const { dataset } of form.querySelectorAll(".rating[data-value]")) {
    ratings[dataset.rated] = { ...ratings[dataset.rated], [dataset.criterion]: Number(dataset.value) };
  }
  return {
    comment: form.elements.comment?.value ?? "",
    reasons: [...form.querySelectorAll('[name="reasons"]:checked')].map((box) => box.value),
    ratings,
  };
}

/** Fill the form from a draft, as far as it makes sense. */
function fillAfterwards(form, draft) {
  if (form.elements.comment) form.elements.comment.value = draft?.comment ?? "";
  for (const box of form.querySelectorAll('[name="reasons"]')) box.checked = (draft?.reasons ?? []).includes(box.value);
  for (const group of form.querySelectorAll(".rating")) {
    rate(group, draft?.ratings?.[group.dataset.rated]?.[group.dataset.criterion] ?? "");
  }
}

/** Give one rating, or take it back with "". */
function rate(group, value) {
  for (const box of group.querySelectorAll("input")) box.checked = box.value === String(value);
  if (group.querySelector(":checked")) group.dataset.value = value;
  else delete group.dataset.value;
}

/** The ratings that must be given before submitting and are not yet. */
const ratingsLeft = (form) => [...form.querySelectorAll("[data-required] .rating:not([data-value])")];

/** What a key does within a rating: true when something changed, false when nothing, null when it is no key of ratings. */
function pressInRating(group, key) {
  const box = group.querySelector(`input[value="${CSS.escape(key)}"]`);
  if (box) {
    rate(group, key);
    box.focus({ preventScroll: true });
    return true;
  }
  if (!["0", "Delete", "Backspace"].includes(key)) return /^\d$/.test(key) ? false : null;
  rate(group, "");
  return true;
}

/** Go to the first rating that is missing, or else to the first; it may be one that need not be given. */
function focusRatings(form) {
  const group = form.querySelector(".rating:not([data-value])") ?? form.querySelector(".rating");
  (group.querySelector(":checked") ?? group.querySelector("input")).focus();
}
