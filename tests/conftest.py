"""Fixtures for the whole suite: real Postgres, a real broker, and a cast of people.

Alice is admin of the project, Bob annotates, Rita researches, Charlie belongs to nothing. `worker` is a real Celery worker,
`live_site` a real web server, `open_page` a real browser's page, signed in.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import translation
from kombu import Queue
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
    content_hash,
)
from config.celery import app
from config.processes import wait_until

# The same examples in each run: what fails, fails for everybody.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def storage() -> Iterator[Path]:
    """The storage, empty at each test's start; the web server and the worker beside the test have the same."""
    folder = Path(django_settings.MEDIA_ROOT)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def english() -> None:
    """A request leaves its language behind in the thread, here for the next test."""
    translation.activate("en")


@pytest.fixture(scope="session", autouse=True)
def static_files() -> None:
    """Pages name their static files by hash, as in production."""
    call_command("collectstatic", interactive=False, verbosity=0)


@cache
def hashed_password() -> str:
    """Hashed once: Argon2 is slow on purpose, and most tests sign in without it."""
    return make_password(PASSWORD)


def make_user(username: str) -> User:
    return User.objects.create(username=username, email=f"{username}@example.org", password=hashed_password())


@pytest.fixture
def alice(db) -> User:
    return make_user("alice")


@pytest.fixture
def bob(db) -> User:
    return make_user("bob")


@pytest.fixture
def rita(db) -> User:
    return make_user("rita")


@pytest.fixture
def charlie(db) -> User:
    return make_user("charlie")


@pytest.fixture
def project(alice, bob, rita) -> Project:
    project = Project.objects.create(slug="tides", name="Tides", created_by=alice)
    for user, role in ((alice, "admin"), (bob, "annotator"), (rita, "researcher")):
        Membership.objects.create(project=project, user=user, role=role)
    return project


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make_task(project: Project, question: str = "Why is the sky blue?", texts: list[str] | None = None) -> RankingTask:
    """A task as an import makes it: one prompt, one source, a completion per text."""
    texts = texts or [f"{question} Answer {number}." for number in range(1, 5)]
    messages = [{"role": "user", "content": question}]
    prompt, _ = Prompt.objects.get_or_create(
        project=project, content_hash=content_hash(messages), defaults={"messages": messages}
    )
    source, _ = Source.objects.get_or_create(project=project, name="imported", defaults={"kind": Source.Kind.IMPORT})
    completions = [
        Completion.objects.create(prompt=prompt, source=source, text=text, content_hash=content_hash(text))
        for text in texts
    ]
    task = RankingTask.objects.create(
        project=project,
        prompt=prompt,
        content_hash=content_hash(sorted(completion.pk for completion in completions)),
        overlap=project.overlap,
    )
    TaskCompletion.objects.bulk_create(TaskCompletion(task=task, completion=completion) for completion in completions)
    return task


def test_environment() -> dict[str, str]:
    """For a process of ours that works beside the test, on the test's own database."""
    base, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    return {**os.environ, "DATABASE_URL": f"{base}/{connection.settings_dict['NAME']}", "PYTHONUNBUFFERED": "1"}


def end_with_descendants(process: "subprocess.Popen[Any]", sig: signal.Signals, seconds: float) -> None:
    """End it as its supervisor would; whatever of its family is left after `seconds` is killed."""
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(sig)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _, alive = psutil.wait_procs(family, timeout=5)
        for child in alive:
            child.kill()


@pytest.fixture
def worker(transactional_db, storage, tmp_path) -> Iterator["subprocess.Popen[bytes]"]:
    """A real Celery worker for every queue, on the test's database, storage and broker; its log is tmp_path/worker.log."""
    queues = ("default", "generate", "gpu")
    with app.connection_for_write() as broker:
        for queue in queues:
            Queue(queue, channel=broker.default_channel).purge()
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", ",".join(queues), "-c", "1"]
    command += ["--without-gossip", "--without-mingle", "-l", "INFO", "-n", f"test-{os.getpid()}@localhost"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=django_settings.BASE_DIR, env=test_environment(), stdout=output, stderr=output
        )
    try:
        ready = wait_until(lambda: b" ready." in log.read_bytes() or process.poll() is not None, 60)
        if not ready or process.poll() is not None:
            raise RuntimeError(f"the worker did not start:\n{log.read_text()}")
        yield process
    finally:
        end_with_descendants(process, signal.SIGQUIT, 15)


@pytest.fixture(scope="session")
def web_server(django_db_setup, django_db_blocker, static_files, tmp_path_factory) -> Iterator[str]:
    """A real gunicorn on the test database for the whole session; gives its address."""
    with django_db_blocker.unblock():
        environment = test_environment()
    log = tmp_path_factory.mktemp("web") / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", "127.0.0.1:0", "--worker-class", "gthread"]
    command += ["--threads", "8", "--no-control-socket"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=django_settings.BASE_DIR, env=environment, stdout=output, stderr=output)
    address = re.compile(r"Listening at: (http://127\.0\.0\.1:\d+)")
    try:
        wait_until(lambda: "Booting worker" in log.read_text() or process.poll() is not None, 60)
        match = address.search(log.read_text())
        if process.poll() is not None or not match:
            raise RuntimeError(f"the web server did not start:\n{log.read_text()}")
        yield match[1]
    finally:
        end_with_descendants(process, signal.SIGTERM, 15)


@pytest.fixture
def live_site(web_server: str, transactional_db, storage) -> str:
    """The address of a real web server that serves the test's own rows and storage."""
    return web_server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, as Debian packages it."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise RuntimeError("the browser tests need Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


class PageOpener:
    """Opens pages of the live site and keeps what went wrong in them.

    `problems` lists console errors (violations of the content security policy are among them) and uncaught errors; the test
    fails at its end if any are left, so a test that provokes one on purpose clears it.
    """

    def __init__(self, browser: Browser, site: str) -> None:
        self.browser, self.site = browser, site
        self.problems: list[str] = []

    def __call__(
        self,
        user: User | None = None,
        *,
        viewport: tuple[int, int] = (1440, 900),
        color_scheme: Any = "light",
        **options: Any,
    ) -> Page:
        """A page in a browser context of its own, signed in as `user`; `page.goto("/")` is relative to the site."""
        width, height = viewport
        context = self.browser.new_context(
            base_url=self.site,
            viewport={"width": width, "height": height},
            color_scheme=color_scheme,
            **options,
        )
        context.set_default_timeout(15_000)
        if user is not None:
            cookie = signed_in(user).cookies[django_settings.SESSION_COOKIE_NAME].value
            context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": cookie, "url": self.site}])
        page = context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        return page

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.problems.append(f"{message.text} ({message.location.get('url', '')})")


@pytest.fixture
def open_page(browser, live_site) -> Iterator[Callable[..., Page]]:
    """`open_page(user, viewport=(390, 844), color_scheme="dark")` gives a Playwright page; see PageOpener."""
    opener = PageOpener(browser, live_site)
    yield opener
    for context in browser.contexts:
        context.close()
    assert opener.problems == []
