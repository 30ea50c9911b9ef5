// The keyboard on the review page: a letter goes to its answer's place, the digit then chooses it.
const places = new Map(
  [...document.querySelectorAll("tr[data-letter]")].map((row) => [row.dataset.letter, row.querySelector("select")]),
);

document.addEventListener("keydown", (event) => {
  const isText = event.target.matches("textarea, input");
  if (isText || event.ctrlKey || event.metaKey || event.altKey) return;
  const place = places.get(event.key.toUpperCase());
  const digit = document.activeElement?.matches("tr[data-letter] select") && /^[1-9]$/.test(event.key);
  if (place) {
    event.preventDefault();
    place.focus();
    place.scrollIntoView({ block: "nearest" });
  } else if (digit) {
    event.preventDefault();
    const select = document.activeElement;
    if (select.querySelector(`option[value="${event.key}"]`)) select.value = event.key;
  }
});
