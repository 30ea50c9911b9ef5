"""Child processes that never outlive their purpose: what the embedded services and the supervisor share."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

# Resolved before any fork: nothing may be imported or looked up between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ServiceError(Exception):
    """A service cannot run here. The message tells the person why, and what to do."""


class FolderInUse(ServiceError):
    """Another process runs its services in this folder."""


def end_with_parent(parent: int, sig: signal.Signals) -> None:
    """From here on this process gets `sig` when the thread that started it ends, however it ends (Linux only)."""
    if _libc:
        _libc.prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def dies_with_us(sig: signal.Signals) -> Callable[[], None]:
    """A preexec_fn: the child gets `sig` when we end."""
    parent = os.getpid()
    return lambda: end_with_parent(parent, sig)


def adopt_orphans() -> None:
    """Processes whose parent dies become our children, wherever below us they are, so that none escapes (Linux only)."""
    if _libc:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(known: Container[int]) -> None:
    """Bury adopted children that have ended; those in `known` are buried by whoever waits for them."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in known:
            return
        os.waitpid(ended.si_pid, 0)


def kill_children(seconds: float = 5) -> None:
    """Kill every process that is still below us (Linux only)."""
    end = time.monotonic() + seconds
    while (children := children_of(os.getpid())) and time.monotonic() < end:
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children_of(parent: int) -> list[int]:
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                children.append(int(folder.name))
    return children


def lock_folder(folder: Path) -> IO[str]:
    """Hold the folder until the returned file is closed or this process ends. Raises FolderInUse."""
    lock = (folder / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise FolderInUse(f"{folder} is in use by process {holder or 'unknown'}, which goes on undisturbed") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def command_of(pid: int) -> str:
    """The command line of a living process; empty if there is none."""
    try:
        if Path("/proc/self").exists():
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            return "" if state == "Z" else Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout
    except OSError:
        return ""


def end_process(process: "subprocess.Popen[bytes]", *steps: tuple[signal.Signals, float]) -> None:
    """Send each signal and wait its seconds, until the process has ended; SIGKILL comes last."""
    for sig, seconds in (*steps, (signal.SIGKILL, 10.0)):
        if process.poll() is not None:
            return
        process.send_signal(sig)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


def end_stale(pid_file: Path, sig: signal.Signals, mark: str) -> None:
    """End the process that a pid file names, if it is alive and its command line bears our `mark`, and clear the file.

    Safe only under the folder's lock: then whoever still runs there has lost its supervisor.
    """
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        pid = 0
    if pid and mark in command_of(pid):
        os.kill(pid, sig)
        if not wait_until(lambda: mark not in command_of(pid), 60):
            raise ServiceError(
                f"process {pid} of an earlier start does not end; stop it (kill -9 {pid}) and start again"
            )
    pid_file.unlink(missing_ok=True)


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)
