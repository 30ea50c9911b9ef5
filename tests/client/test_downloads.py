"""Files come whole or not at all, and go on where they broke off."""

import asyncio
import fcntl
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from podium_client import AsyncPodium, BadAnswer, NotFound, Podium, Unreachable

from .conftest import Answer

BODY = b'{"prompt": 1}\n{"prompt": 2}\n'
VERSION = json.dumps({"number": 3, "state": "succeeded", "content_hash": "ab" * 32}).encode()
PROJECT = Answer(200, b'{"slug": "tides"}')
ETAG = '"one"'
NAMED = 'attachment; filename="../../tides-v3-preference-train.jsonl"'
HEAD = Answer(200, b"", ETag=ETAG, Content_Disposition=NAMED)
PART = f".pairs.jsonl.{hashlib.sha256(ETAG.encode()).hexdigest()[:12]}.part"


def version_of(server, *answers: Answer):
    return Podium(server.url, "secret", retries=3).project("tides").dataset(3)


def part_of(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name.startswith(".")]


@pytest.fixture
def source(elsewhere):
    """`source(…)` answers a download with what is given, after the project, the version and the HEAD request."""
    return lambda *answers, head=HEAD: elsewhere(PROJECT, Answer(200, VERSION), head, *answers)


@pytest.mark.usefixtures("impatient")
def test_a_download_that_breaks_off_goes_on_where_it_was(source, tmp_path):
    rest: dict[str, Any] = {"ETag": ETAG, "Content_Range": f"bytes 9-{len(BODY) - 1}/{len(BODY)}"}
    server = source(Answer(200, BODY, cut=9, ETag=ETAG), Answer(503), Answer(206, BODY[9:], **rest))
    made = version_of(server).download(tmp_path / "new" / "pairs.jsonl", split="train")
    assert made.read_bytes() == BODY
    assert list(made.parent.iterdir()) == [made]
    path, headers = server.asked[-1][1], server.asked[-1][2]
    assert path.endswith("/download?shape=preference&format=jsonl&split=train")
    assert (headers["range"], headers["if-range"], headers["accept-encoding"]) == ("bytes=9-", ETAG, "identity")


@pytest.mark.usefixtures("impatient")
def test_what_an_interrupted_call_left_is_kept_while_the_file_is_the_same(source, tmp_path):
    server = source(*[Answer(200, BODY, cut=9, ETag=ETAG)], *[Answer(0)] * 4)
    with pytest.raises(Unreachable):
        version_of(server).download(tmp_path / "pairs.jsonl")
    (part,) = part_of(tmp_path)
    assert part.read_bytes() == BODY[:9]

    rest: dict[str, Any] = {"ETag": ETAG, "Content_Range": f"bytes 9-{len(BODY) - 1}/{len(BODY)}"}
    made = version_of(source(Answer(206, BODY[9:], **rest))).download(tmp_path / "pairs.jsonl")
    assert made.read_bytes() == BODY
    assert part_of(tmp_path) == []


@pytest.mark.usefixtures("impatient")
def test_a_file_that_has_changed_is_fetched_from_its_start(source, tmp_path):
    server = source(Answer(200, BODY, cut=9, ETag=ETAG), Answer(200, b"other\n", ETag='"two"'))
    assert version_of(server).download(tmp_path / "pairs.jsonl").read_bytes() == b"other\n"


def test_a_part_that_is_whole_already_is_taken_as_it_is(source, tmp_path):
    server = source(Answer(200, BODY, ETag=ETAG))
    target = version_of(server).download(tmp_path / "pairs.jsonl")
    target.rename(tmp_path / PART)
    again = source(Answer(416, b"", Content_Range=f"bytes */{len(BODY)}"))
    assert version_of(again).download(target).read_bytes() == BODY


def test_nothing_is_put_in_place_that_is_not_whole(source, tmp_path):
    wrong: dict[str, Any] = {"ETag": ETAG, "Content_Range": "bytes 0-4/99"}
    with pytest.raises(BadAnswer, match="99"):
        version_of(source(Answer(206, BODY[:5], **wrong))).download(tmp_path / "pairs.jsonl")
    assert not (tmp_path / "pairs.jsonl").exists()


def test_an_earlier_file_stays_when_the_server_refuses(source, tmp_path):
    target = tmp_path / "pairs.jsonl"
    target.write_text("mine")
    with pytest.raises(NotFound):
        version_of(source(head=Answer(404))).download(target)
    assert target.read_text() == "mine"


def test_two_downloads_of_one_file_do_not_write_into_each_other(source, tmp_path):
    part = tmp_path / PART
    with part.open("wb") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        busy.write(b"the other's")
        busy.flush()
        made = version_of(source(Answer(200, BODY, ETag=ETAG))).download(tmp_path / "pairs.jsonl")
        assert made.read_bytes() == BODY
        assert part.read_bytes() == b"the other's"
        assert part_of(tmp_path) == [part]


@pytest.mark.usefixtures("impatient")
def test_whoever_awaits_gets_the_same_file(source, tmp_path):
    rest: dict[str, Any] = {"ETag": ETAG, "Content_Range": f"bytes 9-{len(BODY) - 1}/{len(BODY)}"}
    server = source(Answer(200, BODY, cut=9, ETag=ETAG), Answer(206, BODY[9:], **rest))

    async def story() -> Path:
        async with AsyncPodium(server.url, "secret") as podium:
            version = await (await podium.project("tides")).dataset(3)
            return await version.download(tmp_path, format="jsonl")

    made = asyncio.run(story())
    assert made == tmp_path / "tides-v3-preference-train.jsonl"
    assert made.read_bytes() == BODY
