"""`make demo` as a person runs it, from the command line. The tests share one folder, and the last ones end what runs in it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from config.processes import wait_until

ROOT = Path(__file__).parents[2]
NOT_OURS = ("DATABASE_URL", "BROKER_URL", "SECRET_KEY", "STATIC_ROOT", "STORAGE_ROOT", "PODIUM_HOME", "PORT")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Demo:
    """One folder in which the supervisor is started, once or several times."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self, **changes: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
        return own | {"PODIUM_HOME": str(self.home)} | changes

    def start(self) -> None:
        self.port = free_port()
        self.terminal = self.home.parent / f"terminal-{self.port}"
        with self.terminal.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "config.supervisor"],
                cwd=ROOT,
                env=self.environment(PORT=str(self.port)),
                stdout=output,
                stderr=output,
            )
        if not wait_until(lambda: "is ready" in self.text() or self.ended(), 120) or self.ended():
            raise RuntimeError(self.text())

    def text(self) -> str:
        return self.terminal.read_text()

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def family(self) -> list[psutil.Process]:
        assert self.process
        family: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return family

    def main_process(self, mark: str) -> psutil.Process:
        """The supervisor's own child whose command line bears the mark."""
        assert self.process
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if mark in " ".join(child.cmdline()))

    def get(self, path: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return int(response.status)


@pytest.fixture(scope="module")
def demo():
    folder = Path(tempfile.mkdtemp(prefix="podium-demo-"))
    folder.chmod(0o711)
    demo = Demo(folder / "home")
    demo.start()
    yield demo
    if demo.process and not demo.ended():
        demo.process.send_signal(signal.SIGINT)
        demo.process.wait(60)
    shutil.rmtree(folder)


def test_it_prints_the_address_and_three_accounts(demo):
    assert f"http://127.0.0.1:{demo.port}/" in demo.text()
    kept = (demo.home / "accounts.txt").read_text()
    assert re.findall(r"^(\w+) +\w{14}$", kept, re.MULTILINE) == ["admin", "annotator", "researcher"]
    for line in kept.splitlines():
        assert line in demo.text()
    for secret in ("accounts.txt", "secret-key"):
        assert (demo.home / secret).stat().st_mode & 0o777 == 0o600


def test_everything_is_reachable(demo):
    assert demo.get("/readyz") == 200
    assert demo.get("/accounts/login/") == 200


def test_a_second_demo_in_the_folder_is_refused_and_the_first_goes_on(demo):
    command = [sys.executable, "-m", "config.supervisor"]
    environment = demo.environment(PORT=str(free_port()))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"runs already: {demo.home} is in use by process {demo.process.pid}" in done.stdout
    assert done.stderr == ""
    assert demo.get("/healthz") == 200


def test_a_port_that_is_taken_is_named(demo, tmp_path):
    command = [sys.executable, "-m", "config.supervisor"]
    environment = demo.environment(PORT=str(demo.port), PODIUM_HOME=str(tmp_path / "other"))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"port {demo.port} is taken; choose another" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_is_refused(demo, tmp_path, port):
    command = [sys.executable, "-m", "config.supervisor"]
    environment = demo.environment(PORT=port, PODIUM_HOME=str(tmp_path / "other"))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"PORT must be a number from 1 to 65535, not '{port}'" in done.stdout


def test_a_killed_worker_starts_again(demo):
    killed = demo.main_process("-Q gpu")
    pool = killed.children()
    killed.kill()
    assert wait_until(lambda: "worker-gpu runs again" in demo.text(), 30)
    assert "worker-gpu ended (killed by SIGKILL)" in demo.text()
    assert demo.main_process("-Q gpu").pid != killed.pid
    _, alive = psutil.wait_procs(pool, timeout=10)
    assert alive == []


def test_a_killed_postgres_starts_again_and_pages_work(demo):
    demo.main_process("postgres").kill()
    assert wait_until(lambda: "Postgres runs again" in demo.text(), 60)
    assert wait_until(lambda: is_ready(demo), 30)
    assert demo.get("/accounts/login/") == 200


def is_ready(demo: Demo) -> bool:
    try:
        return demo.get("/readyz") == 200
    except OSError:
        return False


def test_ctrl_c_leaves_no_process_and_the_next_start_loses_nothing(demo):
    accounts = (demo.home / "accounts.txt").read_text()
    family = demo.family()
    began = time.monotonic()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    assert time.monotonic() - began < 30
    assert [process for process in family if process.is_running()] == []

    demo.start()
    assert (demo.home / "accounts.txt").read_text() == accounts
    assert accounts.split()[1] not in demo.text()
    assert str(demo.home / "accounts.txt") in demo.text()
    assert demo.get("/readyz") == 200


def test_nothing_outlives_a_killed_supervisor(demo):
    family = demo.family()
    assert len(family) > 8
    demo.process.kill()
    demo.process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
