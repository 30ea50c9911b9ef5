// Dragging a letter with mouse, pen or finger. A press that does not move stays a click.
"use strict";

const DRAG_AFTER_PX = 6;

/**
 * `grip(element)` gives the letter that a press on `element` takes hold of, or null.
 * `target(element)` gives the drop target at `element`, or null; the one under the pointer has the class `over`.
 * `drop(letter, target)` is called at the end, `start(letter)` and `end()` around it.
 */
function draggable({ grip, target, start, drop, end }) {
  let press = null;

  function stop() {
    press?.ghost?.remove();
    press?.over?.classList.remove("over");
    document.body.classList.remove("dragging");
    const moved = Boolean(press?.ghost);
    press = null;
    if (moved) end();
  }

  document.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary || press) return;
    const letter = grip(event.target);
    if (letter) press = { letter, x: event.clientX, y: event.clientY, id: event.pointerId, over: null, ghost: null };
  });

  document.addEventListener("pointermove", (event) => {
    if (!press || event.pointerId !== press.id) return;
    if (!press.ghost) {
      if (Math.hypot(event.clientX - press.x, event.clientY - press.y) < DRAG_AFTER_PX) return;
      press.ghost = document.createElement("span");
      press.ghost.className = "chip ghost";
      press.ghost.textContent = press.letter;
      press.ghost.setAttribute("aria-hidden", "true");
      document.body.append(press.ghost);
      document.body.classList.add("dragging");
      start(press.letter);
    }
    event.preventDefault();
    press.ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px) translate(-50%, -50%)`;
    const over = target(document.elementFromPoint(event.clientX, event.clientY));
    if (over === press.over) return;
    press.over?.classList.remove("over");
    over?.classList.add("over");
    press.over = over;
  });

  document.addEventListener("pointerup", (event) => {
    if (!press || event.pointerId !== press.id) return;
    const { letter, over, ghost } = press;
    stop();
    if (!ghost) return;
    // The click that a browser may send after a drag would pick or place again.
    const swallow = (click) => { click.stopPropagation(); click.preventDefault(); };
    document.addEventListener("click", swallow, { capture: true, once: true });
    setTimeout(() => document.removeEventListener("click", swallow, { capture: true }), 0);
    if (over) drop(letter, over);
  });

  document.addEventListener("pointercancel", stop);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && press?.ghost) stop();
  });
  document.addEventListener("dragstart", (event) => {
    if (press) event.preventDefault();
  });
}
