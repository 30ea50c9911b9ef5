// What every page shares: the theme switch, menus that close, times in the reader's zone.

const switcher = document.getElementById("theme-switch");

function currentTheme() {
  return document.documentElement.dataset.theme ?? "";
}

function showTheme() {
  for (const button of switcher.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === currentTheme()));
  }
}

switcher.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const theme = button.dataset.themeChoice;
  // A cookie, so that the server draws the next page in it and nothing flashes.
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `theme=${theme}; path=/; max-age=${theme ? 31536000 : 0}; samesite=lax${secure}`;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  showTheme();
});
showTheme();

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// In the page's language; of its regional forms, the reader's.
const language = document.documentElement.lang;
const locale = navigator.languages.find((name) => name.split("-")[0] === language) ?? language;
// On a phone the tabs scroll sideways: the current one is brought into view.
for (const tab of document.querySelectorAll(":is(.project-nav, .subnav) [aria-current]")) {
  const list = tab.closest("ul");
  list.scrollLeft = tab.offsetLeft - list.offsetLeft - (list.clientWidth - tab.offsetWidth) / 2;
}

const timeFormat = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });

function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const value = element.getAttribute("datetime");
    const when = new Date(value);
    if (Number.isNaN(when.getTime()) || !value.includes("T")) continue;
    element.dataset.local = "";
    element.title = timeFormat.format(when);
    // "3 minutes ago" says more than a date; a date is said in the reader's own zone, unless its zone stands with it.
    if (/\d{4}|\d:\d/.test(element.textContent) && !element.textContent.includes("UTC")) {
      element.textContent = timeFormat.format(when);
    }
  }
}
localTimes(document);
document.addEventListener("htmx:load", (event) => localTimes(event.detail.elt));
