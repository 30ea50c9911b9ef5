"""Downloads over real HTTP: broken off and resumed, asked for twice, kept and forgotten."""

import http.client
import os
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.urls import reverse

from annotate.downloads import trim_exports
from annotate.models import DatasetVersion
from annotate.services.tokens import create_token
from annotate.tasks import trim_exports as trim_task
from tests.annotate.rows import build, rank
from tests.conftest import make_task, signed_in


@pytest.fixture
def version(project, alice, bob) -> DatasetVersion:
    for number in range(8):
        texts = [f"{number} {name} " + os.urandom(20_000).hex() for name in ("one", "two", "three")]
        rank(make_task(project, f"Question {number}?", texts), bob, [1, 2, 3])
    return build(project, alice, test_fraction=0)


@pytest.fixture
def ask(live_site, rita, version):
    """`ask("GET", format="jsonl", headers={…})` gives (status, headers, body) of a download over a connection of its own."""
    cookie = (
        f"{django_settings.SESSION_COOKIE_NAME}={signed_in(rita).cookies[django_settings.SESSION_COOKIE_NAME].value}"
    )

    def asked(method: str = "GET", *, headers: dict[str, str] | None = None, only: int | None = None, **query: str):
        path = reverse("dataset_download", args=["tides", version.number])
        query = {"shape": "preference", **query}
        connection = http.client.HTTPConnection(urlsplit(live_site).netloc, timeout=60)
        address = path + "?" + "&".join(f"{name}={value}" for name, value in query.items())
        connection.request(method, address, headers={"Cookie": cookie, **(headers or {})})
        response = connection.getresponse()
        body = response.read() if only is None else response.read(only)
        connection.close()
        return response.status, response.headers, body

    return asked


def kept(storage: Path) -> list[str]:
    folder = storage / "exports"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def until(condition, seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_download_that_was_broken_off_is_resumed_and_whole(ask, storage):
    status, headers, whole = ask(format="parquet")
    assert (status, headers["Accept-Ranges"], "Content-Length" in headers) == (200, "bytes", False)
    assert len(whole) > 300_000
    until(lambda: len(kept(storage)) == 1)
    tag = headers["ETag"]
    half = len(whole) // 2
    status, headers, rest = ask(format="parquet", headers={"Range": f"bytes={half}-", "If-Range": tag})
    assert (status, headers["Content-Range"]) == (206, f"bytes {half}-{len(whole) - 1}/{len(whole)}")
    assert whole[:half] + rest == whole
    status, headers, again = ask(format="parquet")
    assert (status, again, headers["Content-Length"]) == (200, whole, str(len(whole)))


def test_a_range_of_what_was_never_downloaded_is_made_first(ask, storage):
    status, headers, end = ask(format="jsonl", headers={"Range": "bytes=-100"})
    assert (status, len(end)) == (206, 100)
    whole = ask(format="jsonl")[2]
    assert whole.endswith(end)
    assert headers["Content-Range"] == f"bytes {len(whole) - 100}-{len(whole) - 1}/{len(whole)}"
    assert len(kept(storage)) == 1


def test_a_client_that_breaks_off_leaves_no_broken_file(ask, storage):
    assert len(ask(format="jsonl", only=1000)[2]) == 1000
    until(lambda: kept(storage) == [] or not kept(storage)[0].endswith(".part"))
    first = ask(format="jsonl", headers={"Range": "bytes=0-999"})[2]
    whole = ask(format="jsonl")[2]
    assert whole[:1000] == first
    assert whole.count(b"\n") == 24


def test_two_first_downloads_at_once_are_both_right(ask, storage):
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(ask(format="parquet")[2])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    until(lambda: [name for name in kept(storage) if name.endswith(".part")] == [])
    assert len(kept(storage)) == 1
    assert (storage / "exports" / kept(storage)[0]).read_bytes() == bodies[0]


def test_who_has_the_file_is_told_so(ask):
    tag = ask(format="csv")[1]["ETag"]
    for named in (tag, f'"other", W/{tag}', "*"):
        status, headers, body = ask(format="csv", headers={"If-None-Match": named})
        assert (status, body, headers["ETag"]) == (304, b"", tag)
    assert ask(format="csv", headers={"If-None-Match": '"other"'})[0] == 200
    assert len({ask("HEAD", format=name)[1]["ETag"] for name in ("csv", "jsonl", "parquet", "folder")}) == 4


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=99999999-"}, 416),
        ({"Range": "bytes=-0"}, 416),
        ({"Range": "bytes=5-2"}, 200),
        ({"Range": "bytes=-"}, 200),
        ({"Range": "bytes=0-1,5-6"}, 200),
        ({"Range": "lines=0-1"}, 200),
        ({"Range": "bytes=0-" + "9" * 5000}, 200),
        ({"Range": "bytes=0-1", "If-Range": '"something else"'}, 200),
        ({"Range": "bytes=0-99999999"}, 206),
        ({"Range": "bytes=0-0"}, 206),
    ],
)
def test_ranges_are_read_as_the_standard_says(version, rita, headers, status):
    client, url = signed_in(rita), reverse("dataset_download", args=["tides", 1])
    whole = client.get(url).getvalue()
    response = client.get(url, headers=headers)
    assert response.status_code == status
    if status == 416:
        assert response.headers["Content-Range"] == f"bytes */{len(whole)}"
    elif headers["Range"] == "bytes=0-0":
        assert response.getvalue() == whole[:1]
    else:
        assert response.getvalue() == whole


def test_head_says_the_length_once_it_is_known(ask):
    status, headers, body = ask("HEAD", format="jsonl")
    assert (status, body, "Content-Length" in headers) == (200, b"", False)
    whole = ask(format="jsonl")[2]
    status, headers, body = ask("HEAD", format="jsonl")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(whole)))


def test_the_files_kept_are_bounded_and_their_loss_costs_nothing(version, rita, storage, settings):
    client, url = signed_in(rita), reverse("dataset_download", args=["tides", 1])
    formats = ("jsonl", "csv", "parquet")
    bodies = {name: client.get(url, {"format": name}).getvalue() for name in formats}
    files = {name: client.get(url, {"format": name}).headers["ETag"].strip('"') for name in formats}
    assert kept(storage) == sorted(files.values())
    for age, name in enumerate(("csv", "parquet", "jsonl")):
        os.utime(storage / "exports" / files[name], (1_000_000 - age, 1_000_000 - age))
    client.get(url, {"format": "jsonl"})  # used just now
    settings.EXPORT_CACHE_BYTES = len(bodies["jsonl"]) + len(bodies["csv"])
    assert trim_task() == 1
    assert kept(storage) == sorted((files["jsonl"], files["csv"]))
    settings.EXPORT_CACHE_BYTES = 0
    assert client.get(url, {"format": "parquet"}).getvalue() == bodies["parquet"]
    assert client.get(url, {"format": "parquet"}, headers={"Range": "bytes=4-9"}).getvalue() == bodies["parquet"][4:10]
    assert kept(storage) == []


def test_what_a_process_that_is_gone_left_behind_is_cleared_away(version, storage):
    folder = storage / "exports"
    folder.mkdir()
    (folder / "a.part").write_bytes(b"old")
    os.utime(folder / "a.part", (1, 1))
    (folder / "b.part").write_bytes(b"being written")
    assert trim_exports(1000) == 1
    assert kept(storage) == ["b.part"]


def test_a_renamed_version_gives_a_new_card_and_another_tag(version, rita):
    client, url = signed_in(rita), reverse("dataset_download", args=["tides", 1])
    before = client.get(url, {"format": "folder"}).headers["ETag"]
    pairs = client.get(url).headers["ETag"]
    DatasetVersion.objects.update(note="Changed")
    assert client.get(url, {"format": "folder"}).headers["ETag"] != before
    assert client.get(url).headers["ETag"] == pairs


def test_scripts_download_the_same_file(version, rita, project):
    token = create_token(user=rita, name="script", scopes=["read"], days=1)[1]
    client = signed_in(rita)
    url = f"/api/v1/projects/tides/datasets/{version.number}/download"
    headers = {"Authorization": f"Bearer {token}"}
    by_page = client.get(reverse("dataset_download", args=["tides", 1]), {"shape": "ranking", "format": "jsonl.gz"})
    by_api = client.get(url, {"shape": "ranking", "format": "jsonl.gz"}, headers=headers)
    assert by_api.getvalue() == by_page.getvalue()
    assert by_api.headers["ETag"] == by_page.headers["ETag"]
    part = client.get(url, {"shape": "ranking", "format": "jsonl.gz"}, headers={**headers, "Range": "bytes=0-9"})
    assert (part.status_code, len(part.getvalue())) == (206, 10)
    assert client.head(url, headers=headers).status_code == 200
    wrong = client.get(url, {"format": "xlsx"}, headers=headers)
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["format"])
    assert client.get(url.replace("/1/", "/9/"), headers=headers).status_code == 404
