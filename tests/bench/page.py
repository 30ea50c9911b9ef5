"""The ranking page in a real browser: its weight, when it can be used, and how soon the next task is on the screen.

Beside a real gunicorn, on 200 tasks of four 120-word answers.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, sync_playwright

from annotate.models import (
    Completion,
    Membership,
    Project,
    Prompt,
    RankingTask,
    Source,
    TaskCompletion,
    User,
    completion_hash,
    content_hash,
)

from .figures import Figure

TASKS, SUBMISSIONS, ROUNDS = 200, 20, 5
WORDS = re.findall(r"\w+", "the quick answer of a model that explains some matter in plain words to a reader who asked")

# Resolves to the milliseconds from the click on Submit until the next task was painted.
SUBMIT = """() => new Promise((resolve) => {
  const token = document.getElementById("ranking").dataset.token;
  const began = performance.now();
  new MutationObserver((_, observer) => {
    const form = document.getElementById("ranking");
    if (!form || form.dataset.token === token) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
  }).observe(document.getElementById("task"), { childList: true });
  document.getElementById("submit").click();
})"""
READY = "() => performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"


def run() -> list[Figure]:
    annotator, project = fill()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise RuntimeError("this benchmark needs Chromium: apt-get install chromium")
    path = f"/projects/{project.slug}/rank"
    with web_server() as site, sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        first_visit(browser, site, annotator, path)  # the server's first page is another figure
        visits = [first_visit(browser, site, annotator, path) for _ in range(ROUNDS)]
        page = new_page(browser, site, annotator)
        page.goto(path)
        rounds = [submit(page) for _ in range(SUBMISSIONS)]
        browser.close()
    kilobytes, requests, ready = zip(*visits, strict=True)
    return [
        Figure.from_rounds("page_kb", kilobytes, "kB", "over the wire, first visit, everything included"),
        Figure.from_rounds("page_requests", requests, "requests"),
        Figure.from_rounds("page_ready_ms", ready, "ms", "first visit, until the scripts have run"),
        Figure.from_rounds("submit_to_next_ms", rounds, "ms", "from the click to the next task painted"),
    ]


def fill() -> tuple[User, Project]:
    annotator = User.objects.create_user("bench-annotator")
    project = Project.objects.create(slug="bench-page", name="Bench", created_by=annotator)
    Membership.objects.create(project=project, user=annotator, role=Membership.Role.ANNOTATOR)
    source = Source.objects.create(project=project, name="imported", kind=Source.Kind.IMPORT)
    for number in range(TASKS):
        messages = [{"role": "user", "content": f"Question {number}: why is that so?"}]
        prompt = Prompt.objects.create(project=project, messages=messages, content_hash=content_hash(messages))
        texts = [" ".join(WORDS[(n * (k + 3)) % len(WORDS)] for n in range(120)) + f" {k}." for k in range(4)]
        completions = [
            Completion.objects.create(prompt=prompt, source=source, text=text, content_hash=completion_hash(text))
            for text in texts
        ]
        task = RankingTask.objects.create(
            project=project, prompt=prompt, content_hash=content_hash(sorted(each.pk for each in completions))
        )
        TaskCompletion.objects.bulk_create(TaskCompletion(task=task, completion=each) for each in completions)
    return annotator, project


@contextmanager
def web_server() -> Iterator[str]:
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", "127.0.0.1:0", "--worker-class", "gthread"]
    command += ["--threads", "8", "--no-control-socket"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "gunicorn.log"
        with log.open("wb") as output:
            server = subprocess.Popen(command, cwd=settings.BASE_DIR, env=os.environ, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 60
            while "Booting worker" not in log.read_text():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the web server did not start:\n{log.read_text()}")
                time.sleep(0.05)
            found = re.search(r"Listening at: (http://\S+)", log.read_text())
            assert found  # gunicorn says where it listens before it boots a worker
            yield found[1]
        finally:
            server.terminate()
            server.wait(20)


def new_page(browser: Browser, site: str, user: User) -> Page:
    client = Client()
    client.force_login(user)
    context = browser.new_context(base_url=site, viewport={"width": 1440, "height": 900})
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": site}])
    return context.new_page()


def first_visit(browser: Browser, site: str, user: User, path: str) -> tuple[float, int, float]:
    """kB over the wire, requests, ms until usable; with an empty cache."""
    page = new_page(browser, site, user)
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    sizes: list[float] = []
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(path, wait_until="networkidle")
    ready = float(page.evaluate(READY))
    page.context.close()
    return sum(sizes) / 1000, len(sizes), ready


def submit(page: Page) -> float:
    for key in "a1b2c3d4":
        page.keyboard.press(key)
    return float(page.evaluate(SUBMIT))
