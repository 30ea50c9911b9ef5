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

const DRAFT_BYTES = 64 * 1024; // what the server takes, and a browser while the page goes away
const passing = (status) => status >= 500 || [401, 403, 408, 429].includes(status);

/** `{body, whole}`: a draft as it is posted, without the ideal answer where that makes it too large. */
function packDraft(token, draft) {
  const body = JSON.stringify({ token, draft });
  if (new Blob([body]).size <= DRAFT_BYTES) return { body, whole: true };
  return { body: JSON.stringify({ token, draft: { ...draft, ideal: undefined } }), whole: false };
}

/**
 * Saves a draft a moment after its last change, and at once when the page goes away.
 *
 * `read()` gives `{url, token, draft}` or null; `onState("changed" | "saved" | "partly" | "waiting" | refusal)` says how it
 * goes. What the server has not confirmed yet is kept in the tab as well, since a reload may overtake the last save;
 * `unsaved(token)` gives it back.
 */
function draftSaver(read, onState) {
  const nameOf = (token) => `podium-draft-${token}`;
  let timer = null;
  let changed = false;
  let sending = null;
  let round = 0; // what was sent in an earlier one is overtaken, and its outcome says nothing any more

  function keep(current) {
    try {
      sessionStorage.setItem(nameOf(current.token), JSON.stringify(current.draft));
    } catch { /* no storage in this tab, or none left: the server's copy alone then */ }
  }

  function drop(token) {
    try { sessionStorage.removeItem(nameOf(token)); } catch { /* nothing was kept */ }
  }

  function later(wait) {
    clearTimeout(timer);
    timer = setTimeout(save, wait);
  }

  /** Gives the time to wait, in ms, before what is left to save. */
  async function send({ url, token, draft }, leaving) {
    const begun = round;
    const { body, whole } = packDraft(token, draft);
    let answer;
    try {
      answer = await readAnswer(await post(url, body, { keepalive: leaving }));
    } catch {
      answer = { status: 503 };
    }
    if (begun !== round) return 600;
    if (answer.status === 204) {
      if (changed) return 600;
      if (whole) drop(token);
      onState(whole ? "saved" : "partly");
      return 0;
    }
    changed ||= passing(answer.status);
    onState(away(answer.status) ? "waiting" : answer);
    return away(answer.status) ? 2000 : 10000;
  }

  async function save({ leaving = false } = {}) {
    clearTimeout(timer);
    const current = changed && (leaving || !sending) ? read() : null;
    if (!current) return;
    changed = false;
    const mine = send(current, leaving);
    sending = mine;
    const wait = await mine;
    if (sending === mine) sending = null;
    if (changed && !sending) later(wait);
  }

  addEventListener("pagehide", () => save({ leaving: true }));
  document.addEventListener("visibilitychange", () => save({ leaving: document.visibilityState === "hidden" }));
  addEventListener("online", () => save());

  return {
    touch() {
      changed = true;
      keep(read());
      onState("changed");
      later(600);
    },
    async flush() {
      while (sending) await sending;
      await save();
    },
    stop() {
      round += 1;
      changed = false;
      clearTimeout(timer);
    },
    drop,
    unsaved(token) {
      try {
        return JSON.parse(sessionStorage.getItem(nameOf(token)));
      } catch {
        return null;
      }
    },
  };
}
