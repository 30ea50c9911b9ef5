"""Stands between a worker and the recipe that it started, so that nothing of a run outlives its worker.

    python -I shim.py ALIVE_FD SILENCE LOCK_FD -- command…

The worker holds the other end of ALIVE_FD and writes to it while it lives. End of file (the worker died, by whatever cause) or SILENCE
seconds without a byte (it is frozen) end the command. LOCK_FD is the run folder's lock, held by this process and by the command; what
the command starts holds it only if it was forked, or started without closing descriptors (Python's subprocess closes them). The
shim ends all of those before it lets go. SIGTERM is passed on; the worker decides when to kill. The shim leads the process group,
adopts orphans, and exits with the command's code (128 + n for signal n), or with 75 if it had to end the command itself: then the run
is not at fault, and a worker that thaws puts it back into the queue. Standard library only, imported by nobody.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SECONDS_TO_DIE = 1.0
INTERRUPTED = 75


def main() -> int:
    alive, silence, lock, command = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[5:]
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_shim() -> None:
        if libc:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(lock,), preexec_fn=die_with_shim)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))

    last_heard, kill_at, passed_on, open_ends = time.monotonic(), float("inf"), False, [alive]
    while (code := child.poll()) is None:
        with contextlib.suppress(InterruptedError):
            readable, _, _ = select.select(open_ends, [], [], 0.1)
            if readable and os.read(alive, 4096):
                last_heard = time.monotonic()
            elif readable:
                open_ends, last_heard = [], float("-inf")
        now = time.monotonic()
        if now - last_heard > silence and kill_at == float("inf"):
            kill_at = now + SECONDS_TO_DIE
            asked.append(signal.SIGTERM)
        if asked and not passed_on:
            child.terminate()
            passed_on = True
        if now > kill_at:
            child.kill()
    end_descendants()
    if code != 0 and kill_at < float("inf"):
        return INTERRUPTED
    return code if code >= 0 else 128 - code


def end_descendants() -> None:
    """Kill what the command left behind (data loaders, ranks of torchrun); as the subreaper we become its parent."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    while listing.exists() and (orphans := listing.read_text().split()):
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(int(pid), 0)


if __name__ == "__main__":
    sys.exit(main())
