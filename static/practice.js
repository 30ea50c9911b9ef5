// Practice on the ranking page: Enter goes on, wherever the focus is.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.repeat || event.isComposing || document.querySelector("dialog[open]")) return;
  if (event.target.closest("a, button, summary, input, select, textarea")) return;
  const next = document.querySelector("#task [data-go-on]");
  if (!next) return;
  event.preventDefault();
  next.click();
});
