"""The recipe's process: started under the shim with a clean environment, asked to stop, or killed with all it started."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

SHIM = Path(__file__).with_name("shim.py")

# What a recipe may see of the worker's environment: never the database's or the broker's address, nor the secret key.
PASSED_ON = {
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "XDG_CACHE_HOME",
    "TOKENIZERS_PARALLELISM",
}  # fmt: skip
PASSED_ON_PREFIXES = (
    "LC_", "OMP_", "MKL_", "OPENBLAS_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "TORCH", "PYTORCH_", "TRITON_", "ACCELERATE_",
    "VLLM_", "HF_", "PIP_",
)  # fmt: skip


def recipe_environment() -> dict[str, str]:
    """The environment of a recipe. It is offline unless HUB_ENABLED."""
    passed = {
        name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    offline = (
        {} if settings.HUB_ENABLED else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    )
    return {
        **passed,
        **offline,
        "PODIUM_HOME": str(settings.PODIUM_HOME),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


class Child:
    """A recipe's process, under the shim."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.kill_at = float("inf")

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Ask it to save and leave; after RUN_GRACE_SECONDS `kill_if_late` kills it. Asking again changes nothing."""
        if self.kill_at == float("inf"):
            self.kill_at = time.monotonic() + settings.RUN_GRACE_SECONDS
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def kill_if_late(self) -> None:
        if time.monotonic() > self.kill_at:
            self.kill()

    def kill(self) -> None:
        """End it and all that it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(command: list[str], *, log: Path, lock: int, secrets: dict[str, str] | None = None) -> Iterator[Child]:
    """Run `command` under the shim, its output appended to `log`. On the way out nothing of it is alive.

    `secrets` are variables that this command alone may see.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    shim = [sys.executable, "-I", str(SHIM), str(reading), str(settings.RUN_LEASE_SECONDS), str(lock), "--"]
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*shim, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=settings.BASE_DIR,
                env=recipe_environment() | (secrets or {}),
                pass_fds=(reading, lock),
                start_new_session=True,
            )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    child = Child(process)
    ended = threading.Event()
    # A thread of its own, so that a database that hangs is not taken for a worker that is frozen.
    alive = threading.Thread(target=_say_alive, args=(writing, ended), daemon=True)
    alive.start()
    try:
        yield child
    finally:
        child.kill()
        ended.set()
        alive.join()
        os.close(writing)


def _say_alive(pipe: int, ended: threading.Event) -> None:
    while not ended.wait(min(1.0, settings.RUN_LEASE_SECONDS / 5)):
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(pipe, b".")


def recipe_command(module: str, folder: Path, processes: int = 1) -> list[str]:
    launcher = ["training.recipes.launch", str(processes)] if processes > 1 else []
    return [sys.executable, "-m", *launcher, module, str(folder)]
