"""Every failure is answered in words, wherever it happens; the reference on the page is in the log."""

import re
import tempfile

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path

from tests.conftest import signed_in


def database_disk_full(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$")
    return HttpResponse()


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a secret detail")


handler400 = "config.errors.bad_request"
handler500 = "config.errors.server_error"
urlpatterns = [path("full", database_disk_full), path("broken", broken), path("", include("config.urls"))]


def uploading(user) -> Client:
    """A client whose requests are checked as a browser's are, so that the middleware reads their bodies."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(user)
    client.get("/accounts/password/change/")
    return client


def upload(client: Client, **more):
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"{}\n")
        file.seek(0)
        return client.post("/projects/tides/imports", {"file": file}, **more)


def check_reference(response, caplog):
    reference = re.search(r"<code>([0-9a-f]{8})</code>", response.content.decode())
    assert reference
    assert f"reference {reference[1]}" in caplog.text
    assert "Traceback" not in response.content.decode()


def test_too_large_an_upload_is_refused_with_the_limit_and_the_way_around(project, alice, settings):
    response = upload(uploading(alice), CONTENT_LENGTH=str(settings.UPLOAD_LIMIT_BYTES * 2))
    assert response.status_code == 413
    assert "2.0\N{NO-BREAK SPACE}GB" in response.content.decode()
    assert "manage.py import_prompts" in response.content.decode()


def test_a_damaged_request_is_called_that(project, alice):
    client = signed_in(alice)
    response = client.post("/projects/tides/imports", b"x", content_type="multipart/form-data")
    assert response.status_code == 400
    assert "damaged" in response.content.decode()


def test_a_full_disk_is_named_while_an_upload_is_received(project, alice, monkeypatch, caplog):
    client = uploading(alice)
    full = lambda *args, **options: open("/dev/full", "wb", buffering=0)  # noqa: E731, SIM115
    with monkeypatch.context() as patch:
        patch.setattr("django.core.files.uploadedfile.tempfile.NamedTemporaryFile", full)
        response = client.post("/projects/tides/imports", multipart(), content_type=MULTIPART)
    assert response.status_code == 507
    assert "The disk is full" in response.content.decode()
    check_reference(response, caplog)


MULTIPART = "multipart/form-data; boundary=x"


def multipart() -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n--x--\r\n'


def test_a_full_disk_of_the_database_is_named(db, settings, caplog):
    settings.ROOT_URLCONF = __name__
    response = Client(raise_request_exception=False).get("/full")
    assert response.status_code == 507
    assert "The disk is full" in response.content.decode()
    check_reference(response, caplog)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_database_that_is_away_is_named_wherever_it_is_asked_first(
    project, alice, monkeypatch, tmp_path, caplog, method
):
    client = uploading(alice)
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "HOST", str(tmp_path))
        response = upload(client) if method == "post" else client.get("/projects/tides/")
    assert response.status_code == 503
    assert "The database is away" in response.content.decode()
    check_reference(response, caplog)


def test_any_other_failure_tells_no_details(db, settings, caplog):
    settings.ROOT_URLCONF = __name__
    response = Client(raise_request_exception=False).get("/broken")
    assert response.status_code == 500
    assert "a secret detail" not in response.content.decode()
    check_reference(response, caplog)
