"""Every example of docs/client.md and client/README.md, run in order: real server, worker, database, broker, and a tiny model."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pytest
from django.conf import settings
from django.db import connection, transaction

from annotate.models import Membership, Project
from annotate.services import assignments, rankings
from tests.training.conftest import make_checkpoint, quick, tiny_model

from .conftest import CLIENT, token_of

__all__ = ["quick", "tiny_model"]

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("docs/client.md", "client/README.md")
ADDRESS = "https://podium.example"


class Annotator(Thread):
    """Bob, who is made a member of each project and ranks whatever there is, through the service that the page calls."""

    def __init__(self, bob, model: Path) -> None:
        super().__init__(daemon=True)
        self.bob, self.model, self.leaves = bob, model, Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.leaves.wait(0.1):
                for project in Project.objects.exclude(memberships__user=self.bob):
                    make_checkpoint(project, self.model, "tiny")
                    Membership.objects.create(project=project, user=self.bob, role="annotator")
                for membership in Membership.objects.filter(user=self.bob).select_related("project"):
                    while self._rank(membership):
                        pass
        except BaseException as error:
            self.failure = error
            raise
        finally:
            connection.close()

    def _rank(self, membership: Membership) -> bool:
        leased = assignments.lease_next(membership=membership)
        if leased is None:
            return False
        with transaction.atomic():
            locked = assignments.lock_assignment(membership=membership, pk=leased.pk)
            places = [[letter] for letter in rankings.letters(len(locked.shown_order))]
            rankings.submit_ranking(
                membership=membership, assignment=locked, token=locked.token, verdict="ranked", places=places
            )
        return True


@pytest.fixture
def annotator(bob, tiny_model) -> Iterator[Annotator]:
    thread = Annotator(bob, tiny_model)
    thread.start()
    yield thread
    thread.leaves.set()
    thread.join(10)


@pytest.fixture
def shell(tmp_path, live_site, alice, monkeypatch):
    """Runs a block as a person would, who has installed the command and has a token at hand."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, command in (("podium", f'"{sys.executable}" -m podium_client'), ("python", f'"{sys.executable}"')):
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / name).chmod(0o755)
    token = token_of(alice)

    def run(text: str) -> str:
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            input=token + "\n",
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.mark.timeout(600)
def test_every_example_does_what_it_says(
    quick, monkeypatch, tmp_path, live_site, alice, worker, annotator, shell, capsys
):
    alice.is_staff = True
    alice.save()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    names: dict[str, object] = {"__name__": "__main__"}
    ran = {"python": 0, "sh": 0}
    for page in PAGES:
        text = (settings.BASE_DIR / page).read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            language, code = block[1], block[2].replace(ADDRESS, live_site)
            place = f"{page}:{text.count(chr(10), 0, block.start()) + 2}"
            began = time.monotonic()
            if language == "python":
                compiled = compile("\n" * (int(place.rpartition(":")[2]) - 1) + code, page, "exec")
                # In a thread of its own: a browser of other tests may have an event loop running in this one.
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(exec, compiled, names).result()
            elif language == "sh":
                print(shell(code))
            else:
                assert language == "text", f"{place}: what is a block of {language}?"
                continue
            ran[language] += 1
            with capsys.disabled():
                if os.environ.get("SHOW"):
                    print(f"{place}: {time.monotonic() - began:.1f} s")
    assert annotator.failure is None
    assert min(ran.values()) >= 3, ran
    said = capsys.readouterr().out
    assert "12" in said


def test_it_needs_neither_django_nor_the_server(tmp_path):
    """With the packages that it names and no others."""
    check = (
        "import sys, podium_client, podium_client.cli;"
        "bad = {'django', 'annotate', 'training', 'config', 'datasets', 'torch', 'pyarrow', 'numpy'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(CLIENT)}, check=True
    )
