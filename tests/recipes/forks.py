"""Recipes as processes that start in a blink: a server imports torch and TRL once, before any of it computes, and forks for each.

    python -m tests.recipes.forks SOCKET

A fork sees what `python -m training.recipes.METHOD RUN_DIR` would see: its own session, environment, log and signals. Importing takes
eight seconds of a core, and the suite starts some hundred recipes.
"""

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

IMPORTED = (
    "trl",
    "trl.trainer.sft_trainer",
    "trl.trainer.reward_trainer",
    "trl.trainer.dpo_trainer",
    "trl.trainer.grpo_trainer",
    "trl.trainer.rloo_trainer",
    "trl.trainer.kto_trainer",
    "trl.experimental.orpo.orpo_trainer",
    "trl.experimental.online_dpo.online_dpo_trainer",
    "peft",
    "datasets",
    "pyarrow.parquet",
    "transformers.models.llama.modeling_llama",
)
PID_BYTES = 10


class Forked:
    """A recipe's process. Has what the tests use of subprocess.Popen."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.returncode = connection, None
        self.pid = int(connection.recv(PID_BYTES))

    returncode: int | None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.connection.settimeout(timeout)
            try:
                said = self.connection.recv(64)
            except TimeoutError as error:
                raise subprocess.TimeoutExpired(f"recipe {self.pid}", timeout or 0) from error
            self.returncode = int(said or -signal.SIGKILL)
            self.connection.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired, BlockingIOError):
            return self.wait(timeout=0.001)
        return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Started at the first recipe; ends with this process."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="forks-")
        self.path = f"{self.folder.name}/socket"
        self.server: subprocess.Popen[bytes] | None = None

    def start(self, method: str, run: Path, environment: dict[str, str], log: Path, *before: str) -> Forked:
        """`method` may be the path of a script, too. `before` are arguments of the command line that come before the run's folder."""
        if self.server is None:
            # It inherits nothing of the session but a pipe, whose end tells it that the tests are over.
            self.server = subprocess.Popen(
                [sys.executable, "-m", "tests.recipes.forks", self.path],
                stdin=subprocess.PIPE,
                cwd=Path(__file__).resolve().parents[2],
                env=os.environ | environment,
            )
        connection = self._connect()
        request = {"method": method, "arguments": [*before, str(run)], "environment": environment, "log": str(log)}
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Forked(connection)

    def _connect(self) -> socket.socket:
        for _ in range(1200):
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self.path)
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                assert self.server
                assert self.server.poll() is None, "the fork server ended"
                time.sleep(0.05)
            else:
                return connection
        raise AssertionError("the fork server does not answer")


def serve(path: str) -> None:
    for name in IMPORTED:
        __import__(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    waiting: dict[int, socket.socket] = {}
    while True:
        ready = select.select([listener, sys.stdin], [], [], 0.02)[0]
        while waiting and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            with contextlib.suppress(OSError):
                waiting[pid].sendall(str(os.waitstatus_to_exitcode(status)).encode())
            waiting.pop(pid).close()
        if sys.stdin in ready:
            for pid in waiting:
                os.kill(pid, signal.SIGKILL)
            return
        if listener in ready:
            connection, _ = listener.accept()
            request = json.loads(connection.makefile("rb").readline())
            pid = os.fork()
            if pid == 0:
                listener.close()
                for other in waiting.values():
                    other.close()
                become(connection, **request)
            connection.sendall(str(pid).rjust(PID_BYTES).encode())
            waiting[pid] = connection


def become(connection: socket.socket, method: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Turn this fork into the recipe's process. Never returns."""
    code = 1
    try:
        connection.close()
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.environ.update(environment)
        sys.argv = [method, *arguments]
        if method.endswith(".py"):
            runpy.run_path(method, run_name="__main__")
        else:
            runpy.run_module(f"training.recipes.{method}", run_name="__main__")
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else (1 if leaving.code else 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
