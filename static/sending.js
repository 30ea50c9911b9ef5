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
 * Saves a draft a moment after its last change, one request at a time, and at once when the page goes away.
 * `read()` gives `{url, token, draft}` or null; `onState("saved" | "waiting" | answer)` says how it went.
 */
function draftSaver(read, onState) {
  let timer = null;
  let changed = false;
  let sending = false;

  async function save(options = {}) {
    clearTimeout(timer);
    timer = null;
    const current = changed && !sending ? read() : null;
    if (!current) return;
    changed = false;
    sending = true;
    try {
      const body = JSON.stringify({ token: current.token, draft: current.draft });
      const answer = await readAnswer(await post(current.url, body, options));
      if (away(answer.status)) throw new TypeError("away");
      onState(answer.status === 204 ? "saved" : answer);
    } catch {
      changed = true;
      onState("waiting");
      timer ??= setTimeout(save, 5000);
    } finally {
      sending = false;
      if (changed) timer ??= setTimeout(save, 600);
    }
  }

  addEventListener("pagehide", () => save({ keepalive: true }));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") save({ keepalive: true });
  });
  addEventListener("online", () => save());

  return {
    touch() {
      changed = true;
      clearTimeout(timer);
      timer = setTimeout(save, 600);
    },
    flush: () => save(),
    forget() {
      changed = false;
      clearTimeout(timer);
      timer = null;
    },
  };
}
