"""`make demo`: everything that Podium needs on one machine, under one roof.

Starts Postgres and Valkey (unless DATABASE_URL and BROKER_URL name others), prepares the database, and keeps the web server, the
workers and beat running until Ctrl-C. Whatever dies is started again. Whatever way this process ends, nothing is left
running. Everything is kept in PODIUM_HOME.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from config.embedded import Postgres, Valkey, missing_services
from config.processes import (
    FolderInUse,
    ServiceError,
    adopt_orphans,
    dies_with_us,
    kill_children,
    lock_folder,
    reap_orphans,
    tail,
)

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 15
LONGEST_PAUSE = 30.0
LOG_BYTES = 10 * 1024**2


class Stop(BaseException):
    """Somebody asked us to end. No Exception, so that nothing on the way swallows it."""


@dataclass
class Program:
    """A process that is kept running. `ask` is how it is asked to end; `on_our_death` what it gets when we are killed."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    ask: signal.Signals = signal.SIGTERM
    on_our_death: signal.Signals = signal.SIGTERM
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def start(self) -> None:
        self.kill()  # what a predecessor's death left of its pool
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A session of its own: Ctrl-C reaches us alone, and we end things in order.
                start_new_session=True,
                preexec_fn=dies_with_us(self.on_our_death),
            )

    def signal(self, sig: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)

    def kill(self) -> None:
        """Together with its pool: they share its process group."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Watched:
    """A service or program with what we know of its failures."""

    name: str
    it: "Program | Postgres | Valkey"
    started: float = 0.0
    failures: int = 0
    start_at: float | None = None

    def look(self) -> None:
        """Start it again if it has ended, after a pause that doubles from failure to failure."""
        now = time.monotonic()
        if self.start_at is not None:
            if now >= self.start_at:
                self._start()
        elif self.it.process is not None and (code := self.it.process.poll()) is not None:
            self._failed(f"{self.name} ended ({describe_exit(code)})")

    def _start(self) -> None:
        try:
            self.it.start()
        except (ServiceError, OSError) as error:
            self._failed(str(error))
        else:
            self.started, self.start_at = time.monotonic(), None
            say(f"{self.name} runs again")

    def _failed(self, what: str) -> None:
        now = time.monotonic()
        self.failures = self.failures + 1 if self.started > now - 60 else 1
        pause = min(LONGEST_PAUSE, 0.25 * 2**self.failures)
        self.start_at = now + pause
        say(f"{what}; starting it again in {pause:g} s")


def describe_exit(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    home = Path(os.environ.get("PODIUM_HOME") or ROOT / ".podium").resolve()
    try:
        port = read_port(os.environ.get("PORT") or "8000")
        prepare_home(home)
        lock = lock_folder(home)
    except FolderInUse as error:
        say(f"Podium runs already: {error}.")
        return 1
    except (ServiceError, OSError) as error:
        say(f"Podium cannot start: {error}")
        return 1
    watched: list[Watched] = []
    with lock:
        stopping = Stopping()
        adopt_orphans()
        try:
            check_port(port)
            run(home, port, watched)
        except Stop:
            code = 0
        except (ServiceError, OSError) as error:
            say(f"Podium cannot start: {error}")
            code = 1
        stopping.begun = True
        stop_all(watched)
    return code


class Stopping:
    """What signals do: the first asks for an orderly end, one that comes while that goes on kills everything at once."""

    def __init__(self) -> None:
        self.begun = False
        self.heard = 0.0
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # One Ctrl-C may arrive twice: from the terminal and passed on by make.
        again = time.monotonic() > self.heard + 1
        self.heard = time.monotonic()
        if not self.begun:
            self.begun = True
            raise Stop
        if not again:
            return
        say("Killed.")
        kill_children()
        os._exit(130)


def read_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ServiceError(f"PORT must be a number from 1 to 65535, not {text!r}")
    return int(text)


def prepare_home(home: Path) -> None:
    # As root, Postgres' unprivileged user passes through it; what is inside is private file by file.
    home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    for name in ("logs", "storage"):
        (home / name).mkdir(mode=0o700, exist_ok=True)


def check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise ServiceError(f"port {port} is not ours to open; choose another: PORT=8123 make demo") from None
        except OSError:
            raise ServiceError(f"port {port} is taken; choose another: PORT=8123 make demo") from None


def read_secret_key(home: Path) -> str:
    """Made once and kept, so that people stay signed in over a restart."""
    path = home / "secret-key"
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_urlsafe(48) + "\n")
        partial.rename(path)
    return path.read_text().strip()


def run(home: Path, port: int, watched: list[Watched]) -> NoReturn:
    """Start everything, then watch over it until Stop is raised. Raises ServiceError if the start fails."""
    say(f"Podium keeps its data in {home}")
    began = time.monotonic()
    environment = {**os.environ, "PODIUM_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    if not environment.get("SECRET_KEY"):
        environment["SECRET_KEY"] = read_secret_key(home)
    for variable, service in missing_services(home, os.environ, say=say).items():
        name = type(service).__name__
        say(f"Starting {name} …")
        watched.append(Watched(name, service))
        service.start()
        environment[variable] = service.url()

    say("Preparing the database and the pages …")
    prepare(home, environment)

    say("Starting the web server and the workers …")
    programs = list_programs(home, port, environment)
    for program in programs:
        rotate(program.log)
        watched.append(Watched(program.name, program))
        program.start()
    wait_for_web(programs[0], port)
    for each in watched:
        each.started = time.monotonic()
    say(f"\nPodium is ready after {time.monotonic() - began:.1f} s:  http://127.0.0.1:{port}/")
    say(f"Accounts: {home / 'accounts.txt'}   Logs: {home / 'logs'}   Ctrl-C stops everything.\n")
    while True:
        time.sleep(0.2)
        for each in watched:
            each.look()
        reap_orphans([each.it.process.pid for each in watched if each.it.process])


def prepare(home: Path, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "manage.py", "prepare", "--demo", "--accounts", str(home / "accounts.txt")]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=dies_with_us(signal.SIGTERM),
    )
    if code := process.wait():
        raise ServiceError(f"preparing failed ({describe_exit(code)}); the reason stands above")


def list_programs(home: Path, port: int, environment: Mapping[str, str]) -> list[Program]:
    def program(name: str, *arguments: str, **signals: signal.Signals) -> Program:
        command = [sys.executable, "-m", *arguments]
        return Program(name, command, environment, home / "logs" / f"{name}.log", **signals)

    def worker(queue: str, concurrency: int = 1) -> Program:
        options = ["-Q", queue, "-n", f"{queue}@%h", "-c", str(concurrency), "--without-gossip", "--without-mingle"]
        return program(
            f"worker-{queue}",
            *("celery", "-A", "config", "worker", "--loglevel", "INFO", *options),
            # Celery's soft shutdown: what goes on may end or save itself for some seconds, then the pool is ended.
            ask=signal.SIGQUIT,
            on_our_death=signal.SIGKILL,
        )

    web = ["--worker-class", "gthread", "--workers", "2", "--threads", "8", "--preload", "--graceful-timeout", "5"]
    return [
        program("web", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", *web, "--no-control-socket"),
        worker("default", 2),  # so that a long import does not hold up what gives dead workers' jobs back
        worker("generate"),
        worker("gpu"),
        # Beat answers SIGTERM with a query, and hangs if that interrupts another one. It has nothing to lose.
        program(
            "beat",
            *("celery", "-A", "config", "beat", "--loglevel", "INFO", "--pidfile="),
            ask=signal.SIGKILL,
            on_our_death=signal.SIGKILL,
        ),
    ]


def wait_for_web(web: Program, port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if web.process and web.process.poll() is not None:
            raise ServiceError(f"the web server ended at its start:\n{tail(web.log)}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except urllib.error.HTTPError as error:
            raise ServiceError(f"the web server answers {error.code}:\n{tail(web.log)}") from None
        except OSError:
            time.sleep(0.05)
    raise ServiceError(f"the web server did not answer within 120 s:\n{tail(web.log)}")


def rotate(log: Path) -> None:
    """Keep one older log, so that none grows without end over the starts."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        shutil.move(log, log.with_suffix(".log.1"))


def stop_all(watched: list[Watched]) -> None:
    """Web, workers, beat; then the broker, the database at last. Takes some 15 s where a training has to be ended."""
    if not watched:
        return
    say("\nStopping …  (Ctrl-C again kills everything at once)")
    programs = [each.it for each in watched if isinstance(each.it, Program)]
    for program in programs:
        program.signal(program.ask)
    end = time.monotonic() + STOP_SECONDS
    while any(program.process and program.process.poll() is None for program in programs) and time.monotonic() < end:
        time.sleep(0.05)
    for program in programs:
        program.kill()
    for each in reversed(watched):
        if not isinstance(each.it, Program):
            each.it.stop()
    kill_children()
    say("Stopped.")


if __name__ == "__main__":
    sys.exit(main())
