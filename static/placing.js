// A weak order in the making, and how a pointer drags letters onto its places.
"use strict";

const DRAG_AFTER_PX = 6;

/**
 * A weak order: letters on places, the best first, ties together, places empty in between. Of two letters, placing one places
 * both; only `tie` puts them together.
 *
 * `letters` are what is to be ordered, `ties` whether a place may hold several. `places[0]` is the best.
 */
function makeOrder(letters, ties) {
  let places = letters.map(() => []);

  const placeOf = (letter) => places.findIndex((place) => place.includes(letter));

  function lift(letter) {
    places = places.map((place) => place.filter((other) => other !== letter));
  }

  /** Put `letter` between two places: its neighbours move over, up to the nearest empty place. */
  function insert(letter, gap) {
    lift(letter);
    const below = places.findIndex((place, index) => index >= gap && place.length === 0);
    if (below >= 0) {
      places.splice(below, 1);
      places.splice(gap, 0, [letter]);
    } else {
      const above = places.findLastIndex((place, index) => index < gap && place.length === 0);
      places.splice(above, 1);
      places.splice(gap - 1, 0, [letter]);
    }
  }

  /** Put `letter` on a place: tied with what stands there, or in front of it where there are no ties. */
  function put(letter, index) {
    if (letters.length === 2) {
      const other = letters.find((one) => one !== letter);
      places = index === 0 ? [[letter], [other]] : [[other], [letter]];
      return;
    }
    if (!ties) {
      if (placeOf(letter) !== index) insert(letter, index);
      return;
    }
    lift(letter);
    places[index] = [...places[index], letter].sort();
  }

  /** All on one place. */
  function tie() {
    places = letters.map((_, index) => (index === 0 ? [...letters] : []));
  }

  /** Take over the places of a draft, as far as they make sense. */
  function load(saved) {
    const seen = new Set();
    const isNew = (letter) => letters.includes(letter) && !seen.has(letter) && Boolean(seen.add(letter));
    places = letters.map((_, index) => (saved[index] ?? []).filter(isNew));
  }

  return {
    letters,
    placeOf,
    lift,
    insert,
    put,
    tie,
    load,
    all: () => places,
    dense: () => places.filter((place) => place.length > 0),
    tiedWith: (letter) => (places[placeOf(letter)] ?? []).filter((other) => other !== letter).join(", "),
    unplaced: () => letters.filter((letter) => placeOf(letter) < 0),
  };
}

/**
 * Dragging a letter with mouse, pen or finger. A press that does not move stays a click.
 *
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
