"""How long `make demo` takes to start and stop once it is installed, and what its web processes weigh."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from .figures import Figure

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3
OWN = ("DATABASE_URL", "BROKER_URL", "SECRET_KEY", "STATIC_ROOT", "STORAGE_ROOT")


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        home = Path(folder) / "home"
        first, first_page, *_ = start_once(home)
        rounds = [start_once(home) for _ in range(ROUNDS)]
    starts, pages, masters, workers, stops = zip(*rounds, strict=True)
    return [
        Figure("start_first_s", first, "s", spread="with an empty data folder, packages installed"),
        Figure.from_rounds("start_warm_s", starts, "s"),
        Figure("first_page_first_s", first_page, "s"),
        Figure.from_rounds("first_page_s", pages, "s"),
        Figure.from_rounds("web_all_mb", masters, "MB", "proportional set size of gunicorn and its workers"),
        Figure.from_rounds("web_worker_mb", workers, "MB", "resident set size of one worker"),
        Figure.from_rounds("stop_s", stops, "s"),
        Figure.from_rounds("web_import_s", [import_seconds() for _ in range(ROUNDS)], "s"),
    ]


def start_once(home: Path) -> tuple[float, float, float, float, float]:
    """Seconds to /healthz, seconds of the first page, MB of all web processes, MB of a web worker, seconds to the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in OWN}
    environment |= {"PODIUM_HOME": str(home), "PORT": str(port)}
    began = time.monotonic()
    command = [sys.executable, "-m", "config.supervisor"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as demo:
        try:
            while not answers(f"http://127.0.0.1:{port}/healthz"):
                if demo.poll() is not None or time.monotonic() > began + 180:
                    raise RuntimeError("the demo did not start")
                time.sleep(0.05)
            started = time.monotonic()
            answers(f"http://127.0.0.1:{port}/accounts/login/")
            page = time.monotonic() - started
            time.sleep(5)
            web = next(child for child in psutil.Process(demo.pid).children() if "gunicorn" in child.cmdline())
            workers = web.children()
            pss = sum(process.memory_full_info().pss for process in (web, *workers)) / 1e6
            rss = statistics.mean(process.memory_info().rss for process in workers) / 1e6
        finally:
            ended = time.monotonic()
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
    return started - began, page, pss, rss, time.monotonic() - ended


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310
            return bool(response.read())
    except OSError:
        return False


def import_seconds() -> float:
    """Importing everything that a web worker needs, URLs included, in a fresh process."""
    program = "import config.wsgi, django.urls; django.urls.get_resolver().url_patterns"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    return time.monotonic() - began
