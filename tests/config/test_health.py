import socket
import time

import pytest

ALL_OK = {"ready": True, "database": "ok", "broker": "ok", "storage": "ok"}


def test_healthz_asks_neither_database_nor_broker(client, monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    # Without the `db` fixture a query is an error.
    response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")


def test_readyz_says_that_everything_is_reachable(client, db):
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, ALL_OK)


def test_readyz_names_a_broker_that_is_away(client, db, monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (503, ALL_OK | {"ready": False, "broker": "unreachable"})


def test_readyz_does_not_wait_for_a_broker_that_hangs(client, db, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        response = client.get("/readyz")
    assert response.json() == ALL_OK | {"ready": False, "broker": "unreachable"}
    assert time.monotonic() - began < 10


def test_readyz_names_a_database_that_is_away(client, db, monkeypatch, tmp_path):
    from django.db import connection

    monkeypatch.setitem(connection.settings_dict, "HOST", str(tmp_path))
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (503, ALL_OK | {"ready": False, "database": "unreachable"})


def test_readyz_names_a_storage_that_cannot_be_written(client, db, settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path / "not mounted")
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (503, ALL_OK | {"ready": False, "storage": "unreachable"})


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_they_only_answer_reading(client, path):
    assert client.post(path).status_code == 405
