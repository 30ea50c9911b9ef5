import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import dj_database_url
import psycopg
import pytest

from config.embedded import Postgres, Valkey, can_enter, socket_folder, throwaway_services
from config.processes import FolderInUse, command_of, wait_until


@pytest.fixture
def home():
    """Reachable for the unprivileged user that Postgres runs as under root, unlike pytest's own folders."""
    folder = Path(tempfile.mkdtemp(prefix="podium-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def connect(postgres: Postgres) -> psycopg.Connection:
    parsed = dj_database_url.parse(postgres.url())
    return psycopg.connect(
        host=parsed["HOST"],
        port=parsed["PORT"],
        user=parsed["USER"],
        password=parsed["PASSWORD"],
        dbname=parsed["NAME"],
        autocommit=True,
    )


def ask_valkey(valkey: Valkey, *words: str) -> Any:
    import redis

    path = valkey.url().removeprefix("redis+socket://").partition("?")[0]
    with redis.Redis(unix_socket_path=path, decode_responses=True) as client:
        return client.execute_command(*words)


def test_postgres_keeps_every_acknowledged_row_over_a_kill(home):
    postgres = Postgres(home)
    try:
        postgres.start()
        with connect(postgres) as database:
            database.execute("CREATE TABLE kept (id int)")
            database.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
        assert postgres.process
        postgres.process.kill()
        postgres.process.wait()
        # The pid file of the dead server is still there, and says "ready".
        postgres.start()
        with connect(postgres) as database:
            assert database.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
    finally:
        postgres.stop()


def test_postgres_listens_on_no_port_and_asks_for_its_password(home):
    postgres = Postgres(home, durable=False)
    try:
        postgres.start()
        with connect(postgres) as database:
            assert database.execute("SHOW listen_addresses").fetchone() == ("",)
            assert database.execute("SHOW data_checksums").fetchone() == ("on",)
        host = dj_database_url.parse(postgres.url())["HOST"]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=host, user="podium", password="wrong", dbname="podium")
        assert (postgres.folder / "password").stat().st_mode & 0o777 == 0o600
    finally:
        postgres.stop()


def test_a_second_launcher_is_refused_and_the_first_goes_on(home):
    first, second = Postgres(home, durable=False), Postgres(home, durable=False)
    try:
        first.start()
        with pytest.raises(FolderInUse, match=f"process {os.getpid()}"):
            second.start()
        second.stop()
        with connect(first) as database:
            assert database.execute("SELECT 1").fetchone() == (1,)
    finally:
        first.stop()


def test_a_pid_file_that_names_a_foreign_process_hurts_nobody(home):
    postgres = Postgres(home, durable=False)
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        postgres.start()
        assert postgres.process
        postgres.process.kill()
        postgres.process.wait()
        pid_file = postgres.folder / "data" / "postmaster.pid"
        pid_file.write_text(pid_file.read_text().replace(str(postgres.process.pid), str(bystander.pid), 1))
        postgres.start()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        postgres.stop()


def test_services_die_with_a_killed_launcher_and_start_again(home):
    program = """
import sys, time
from pathlib import Path
from config.embedded import Postgres, Valkey
services = [Postgres(Path(sys.argv[1]), durable=False), Valkey(Path(sys.argv[1]))]
for service in services:
    service.start()
print(*(service.process.pid for service in services), flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", program, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as launcher:
        assert launcher.stdout
        pids = [int(pid) for pid in launcher.stdout.readline().split()]
        assert all(map(command_of, pids))
        launcher.kill()
    assert wait_until(lambda: not any(map(command_of, pids)), 20)
    postgres = Postgres(home, durable=False)
    try:
        postgres.start()
    finally:
        postgres.stop()


def test_valkey_keeps_what_it_was_told_over_a_stop(home):
    valkey = Valkey(home)
    try:
        valkey.start()
        ask_valkey(valkey, "RPUSH", "queue", "a", "b")
        valkey.stop()
        valkey.start()
        assert ask_valkey(valkey, "LLEN", "queue") == 2
        assert ask_valkey(valkey, "CONFIG", "GET", "maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    finally:
        valkey.stop()


def test_a_path_too_long_for_a_socket_gets_a_short_folder(home):
    deep = home / ("long" * 25)
    deep.mkdir()
    valkey = Valkey(deep)
    try:
        valkey.start()
        short = Path(valkey.url().removeprefix("redis+socket://").partition("?")[0]).parent
        assert len(str(short)) < 60
        assert short.stat().st_mode & 0o777 == 0o700
        assert ask_valkey(valkey, "PING")
    finally:
        valkey.stop()
    assert not short.exists()


def test_a_path_with_a_space_works(home):
    folder = home / "my data"
    folder.mkdir(mode=0o711)
    postgres, valkey = Postgres(folder, durable=False), Valkey(folder)
    try:
        postgres.start()
        valkey.start()
        with connect(postgres) as database:
            assert database.execute("SELECT 1").fetchone() == (1,)
        assert ask_valkey(valkey, "PING")
    finally:
        valkey.stop()
        postgres.stop()


def test_a_link_in_place_of_the_short_folder_is_refused(home, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wanted = home / ("long" * 25)
    planned = socket_folder(wanted, os.geteuid())
    planned.rmdir()
    planned.symlink_to(home)
    with pytest.raises(Exception, match="belongs to somebody else"):
        socket_folder(wanted, os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_in_a_private_tree_the_data_is_kept_elsewhere_and_nothing_is_loosened(home):
    private = home / "private"
    private.mkdir(mode=0o700)
    said: list[str] = []
    postgres = Postgres(private / "podium", durable=False, say=said.append)
    try:
        assert Path("/var/lib/podium") in postgres.folder.parents
        assert str(postgres.folder) in said[0]
        postgres.start()
        assert private.stat().st_mode & 0o777 == 0o700
        with connect(postgres) as database:
            assert database.execute("SELECT 1").fetchone() == (1,)
        # The same folder leads to the same data.
        assert Postgres(private / "podium", durable=False, say=said.append).folder == postgres.folder
    finally:
        postgres.stop()
        shutil.rmtree(postgres.folder)


def test_who_may_enter_a_folder(home):
    folder = home / "group"
    folder.mkdir(mode=0o710)
    assert can_enter(folder, folder.stat().st_uid, 0)
    assert can_enter(folder, 54321, folder.stat().st_gid)
    assert not can_enter(folder, 54321, 54321)


def test_what_the_environment_names_is_not_started():
    given = {"DATABASE_URL": "postgres://elsewhere/db", "BROKER_URL": "redis://elsewhere"}
    with throwaway_services(given) as environment:
        home = Path(environment.pop("PODIUM_HOME"))
        assert environment == {}
        assert list(home.iterdir()) == []
    assert not home.exists()


def test_an_ended_process_has_no_command():
    with subprocess.Popen(["sleep", "60"]) as process:
        assert "sleep" in command_of(process.pid)
        process.send_signal(signal.SIGKILL)
    assert command_of(process.pid) == ""
