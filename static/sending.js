// Posts that lose nothing: a dropped connection is retried until the server has answered.
"use strict";

function cookie(name) {
  const pair = document.cookie.split("; ").find((entry) => entry.startsWith(`${name}=`));
  return pair ? decodeURIComponent(pair.slice(name.length + 1)) : "";
}

/** One POST. Rejects with TypeError or TimeoutError when no answer came. The CSRF token is read anew: signing in changes it. */
function post(url, body, options = {}) {
  const headers = { "X-CSRFToken": cookie("csrftoken"), "HX-Request": "true", Accept: "text/html, application/json" };
  if (typeof body === "string") headers["Content-Type"] = "application/json";
  return fetch(url, { method: "POST", body, headers, signal: AbortSignal.timeout(20000), ...options });
}

/** `{status, html}`, or `{status, message, code}` for a refusal. Status 401 also when the server sent us to its sign-in page. */
async function readAnswer(response) {
  if (response.redirected && new URL(response.url).pathname.startsWith("/accounts/")) return { status: 401 };
  if (response.status === 204) return { status: 204 };
  if ((response.headers.get("Content-Type") ?? "").includes("json")) {
    return { status: response.status, ...(await response.json()) };
  }
  return { status: response.status, html: await response.text() };
}

const away = (status) => [502, 503, 504].includes(status);

/**
 * Post until an answer comes, waiting 1, 2, 4 … 15 s in between, less when the browser is online again.
 * `onLost(tryNow)` is called at each failure. Only for what the server stores once, however often it comes.
 */
async function postUntilAnswered(url, body, onLost) {
  for (let wait = 1000; ; wait = Math.min(wait * 2, 15000)) {
    try {
      const answer = await readAnswer(await post(url, body));
      if (!away(answer.status)) return answer;
    } catch (error) {
      if (!["TypeError", "TimeoutError", "AbortError"].includes(error.name)) throw error;
    }
    await new Promise((resolve) => {
      setTimeout(resolve, wait);
      addEventListener("online", resolve, { once: true });
      onLost(resolve);
    });
  }
}

/**
 * Saves a draft a moment after its last change, and at once when the page goes away.
 *
 * `read()` gives `{url, token, draft}` or null; `onState("changed" | "saved" | "waiting" | refusal)` says how it goes. What
 * the server has not confirmed yet is kept in the tab as well, since a reload may overtake the last save; `unsaved(token)`
 * gives it back.
 */
function draftSaver(read, onState) {
  const KEPT = "podium-draft";
  let timer = null;
  let changed = false;
  let sending = 0;

  function keep(current) {
    try {
      if (current) sessionStorage.setItem(KEPT, JSON.stringify({ token: current.token, draft: current.draft }));
      else sessionStorage.removeItem(KEPT);
    } catch { /* no storage in this tab: the server's copy alone then */ }
  }

  function later(wait) {
    clearTimeout(timer);
    timer = setTimeout(save, wait);
  }

  async function save({ leaving = false } = {}) {
    clearTimeout(timer);
    if (!changed || (sending && !leaving)) return;
    const current = read();
    if (!current) return;
    changed = false;
    sending += 1;
    try {
      const body = JSON.stringify({ token: current.token, draft: current.draft });
      const answer = await readAnswer(await post(current.url, body, { keepalive: leaving }));
      if (away(answer.status)) throw new TypeError("away");
      if (!changed) keep(null);
      onState(answer.status === 204 ? "saved" : answer);
    } catch {
      changed = true;
      onState("waiting");
    } finally {
      sending -= 1;
      if (changed) later(2000);
    }
  }

  addEventListener("pagehide", () => save({ leaving: true }));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") save({ leaving: true });
  });
  addEventListener("online", () => save());

  return {
    touch() {
      changed = true;
      keep(read());
      onState("changed");
      later(600);
    },
    flush: () => save(),
    forget() {
      changed = false;
      clearTimeout(timer);
      keep(null);
    },
    unsaved(token) {
      try {
        const kept = JSON.parse(sessionStorage.getItem(KEPT));
        return kept?.token === token ? kept.draft : null;
      } catch {
        return null;
      }
    },
  };
}
