// A weak order in the making: letters on places, the best first, ties together, places empty in between.
// Of two letters, placing one places both; only `tie` puts them together.
"use strict";

/** `letters` are what is to be ordered, `ties` whether a place may hold several. `places[0]` is the best. */
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
