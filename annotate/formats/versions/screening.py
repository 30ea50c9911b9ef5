"""Steps that look at the texts of prompts: their language, near duplicates, what held-out prompts leak.

They read the rows of `podium_prompt` some dozens at a time in the order of their content hashes, mark in `dropped_by` what they
drop, and hold signatures, never texts. System messages do not count, and no more than READ characters of a prompt do.

- Near duplicates: the same words, or a Jaccard similarity of their five-word phrases of SIMILAR or more, estimated by MinHash
  (Broder 1997) with 128 permutations; candidates share one of 21 bands of six, with one of the first HEADS of the band. Of two
  duplicates the one stays that the version's ancestors have, then the one whose content hash is smaller: the order in which
  prompts came does not count.
- Contamination, after appendix C of "Language models are few-shot learners" (arXiv:2005.14165): a prompt of the training side that
  shares 13 words in a row with a held-out prompt is dropped; so is one that holds a shorter held-out prompt, of 8 words or more,
  whole, and one whose words are all those of a still shorter one.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from django.db import connection
from numpy.typing import NDArray

from annotate.models import DatasetVersion

from .splitting import stored_batches

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

Array = NDArray[Any]
READ = 100_000
AT_ONCE = 50
SPOKEN = 2_000  # characters by which a language is told
SURE = 0.25  # the least probability of a language; a hundred are known
NO_LANGUAGE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|https?://\S+", re.DOTALL)
# Scripts without spaces: each letter is a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
PHRASE, PERMUTATIONS, BAND = 5, 128, 6
SIMILAR = 0.8
HEADS = 10
LONG, SHORT = 13, 8
MIXED = np.uint64(0x9E3779B97F4A7C15)
NUMBERED = """
    UPDATE podium_prompt one SET nr = numbered.nr FROM (
        SELECT prompt_id, CASE WHEN dropped_by IS NULL THEN row_number() OVER (
            ORDER BY dropped_by IS NOT NULL, was_test IS NULL, content_hash COLLATE "C"
        ) END AS nr FROM podium_prompt
    ) numbered WHERE numbered.prompt_id = one.prompt_id
"""
WHOLE = """
    SELECT one.nr, left((
        SELECT string_agg(message ->> 'content', E'\\n' ORDER BY place)
        FROM jsonb_array_elements(p.messages) WITH ORDINALITY AS each(message, place) WHERE message ->> 'role' <> 'system'
    ), %(read)s)
    FROM podium_prompt one JOIN annotate_prompt p ON p.id = one.prompt_id
    WHERE one.nr BETWEEN %(first)s AND %(last)s AND one.dropped_by IS NULL ORDER BY one.nr
"""
LAST_TURN = """
    SELECT one.nr, left(p.messages -> -1 ->> 'content', %(read)s)
    FROM podium_prompt one JOIN annotate_prompt p ON p.id = one.prompt_id
    WHERE one.nr BETWEEN %(first)s AND %(last)s AND one.dropped_by IS NULL ORDER BY one.nr
"""
SIGNATURES = """
    CREATE TEMPORARY TABLE podium_signature (nr bigint PRIMARY KEY, words bytea, signature bytea);
    CREATE TEMPORARY TABLE podium_band (band smallint, value bigint, nr bigint)
"""
EQUAL = """
    UPDATE podium_prompt one SET dropped_by = 'drop_duplicates' FROM (
        SELECT nr, row_number() OVER (PARTITION BY words ORDER BY nr) AS place FROM podium_signature
    ) same WHERE same.nr = one.nr AND same.place > 1
"""
CANDIDATES = """
    WITH placed AS (
        SELECT b.band, b.value, b.nr, row_number() OVER (PARTITION BY b.band, b.value ORDER BY b.nr) AS place
        FROM podium_band b JOIN podium_prompt p ON p.nr = b.nr WHERE p.dropped_by IS NULL
    ), pairs AS (
        SELECT DISTINCT later.nr AS later, head.nr AS earlier FROM placed later
        JOIN placed head ON head.band = later.band AND head.value = later.value AND head.nr < later.nr
        WHERE head.place <= %(heads)s
    )
    SELECT later, earlier, a.signature, b.signature FROM pairs
    JOIN podium_signature a ON a.nr = later JOIN podium_signature b ON b.nr = earlier
    ORDER BY later, earlier
"""
DROP = "UPDATE podium_prompt SET dropped_by = %s WHERE nr = ANY(%s)"
TAGGED = """
    SELECT (
        SELECT string_agg(message ->> 'content', E'\\n' ORDER BY place)
        FROM jsonb_array_elements(p.messages) WITH ORDINALITY AS each(message, place) WHERE message ->> 'role' <> 'system'
    ) FROM annotate_prompt p WHERE p.id = ANY(%s)
"""


def tell_languages(wanted: Sequence[str], beat: Callable[[], None]) -> dict[str, int]:
    """Drop prompts whose last turn is in none of the `wanted` languages. Returns how many were in which; "" is unknown."""
    found: Counter[str] = Counter()
    for rows in _texts(LAST_TURN, SPOKEN * 5, beat):
        languages = {nr: language_of(text) for nr, text in rows}
        found.update(languages.values())
        _drop("languages", [nr for nr, language in languages.items() if language not in wanted])
    return dict(sorted(found.items()))


def language_of(text: str) -> str:
    """ISO 639-1 code; empty where there is too little to tell it by."""
    spoken = NO_LANGUAGE.sub(" ", text)[:SPOKEN]
    if not any(letter.isalpha() for letter in spoken):
        return ""
    language, probability = _identifier().classify(spoken)
    return str(language) if probability >= SURE and language != "zxx" else ""


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def drop_duplicates(beat: Callable[[], None]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS podium_signature, podium_band")
        cursor.execute(SIGNATURES)
        for rows in _texts(WHOLE, READ, beat):
            _store_signatures(cursor, rows)
        cursor.execute(EQUAL)
        cursor.execute("ANALYZE podium_signature, podium_band, podium_prompt")
    dropped: set[int] = set()
    with connection.chunked_cursor() as cursor:
        cursor.execute(CANDIDATES, {"heads": HEADS})
        while pairs := cursor.fetchmany(2000):
            both = [np.frombuffer(b"".join(map(bytes, side)), np.uint32) for side in list(zip(*pairs, strict=True))[2:]]
            alike = (both[0] == both[1]).reshape(len(pairs), PERMUTATIONS).mean(axis=1) >= SIMILAR
            for (later, earlier, _a, _b), is_alike in zip(pairs, alike, strict=True):
                if is_alike and earlier not in dropped:
                    dropped.add(later)
            beat()
    _drop("drop_duplicates", sorted(dropped))
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE podium_signature, podium_band")


def _store_signatures(cursor: Any, rows: list[tuple[int, str]]) -> None:
    """Prompts without a word are like no other one."""
    hashed = [(nr, word_hashes(text)) for nr, text in rows]
    known = [(nr, words, signature(words)) for nr, words in hashed if len(words)]
    cursor.execute(
        "INSERT INTO podium_signature SELECT * FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[])",
        [[nr for nr, _w, _s in known], [w.tobytes() for _n, w, _s in known], [s.tobytes() for _n, _w, s in known]],
    )
    bands = [
        (band, int(value), nr)
        for nr, _words, values in known
        for band, value in enumerate(grams(values.astype(np.uint64), BAND)[::BAND].astype(np.int64))
    ]
    cursor.execute(
        "INSERT INTO podium_band SELECT * FROM unnest(%s::smallint[], %s::bigint[], %s::bigint[])",
        [list(column) for column in zip(*bands, strict=True)] or [[], [], []],
    )


def word_hashes(text: str) -> Array:
    """A number for each word, without case and punctuation. The same on every machine."""
    words = WORD.findall(text.casefold())
    return np.array([zlib.crc32(word.encode("utf-8", "replace")) for word in words], dtype=np.uint64)


def grams(words: Array, length: int) -> Array:
    """A hash of each `length` words in a row; none where there are fewer."""
    count = max(len(words) - length + 1, 0)
    found = np.zeros(count, dtype=np.uint64)
    for place in range(length):
        found = _mixed(found * MIXED + words[place : place + count] + np.uint64(1))
    return found


def _mixed(values: Array) -> Array:
    """Every bit of each depends on all of its bits (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> np.uint64(31))
    return mixed


@cache
def _permutations() -> Array:
    return _mixed(np.arange(1, PERMUTATIONS + 1, dtype=np.uint64) * MIXED)


def signature(words: Array) -> Array:
    """MinHash of the phrases, (PERMUTATIONS,) of 32 bits. Fewer words than a phrase has are one phrase."""
    phrases = np.unique(grams(words, min(PHRASE, len(words))))
    least = np.full(PERMUTATIONS, np.iinfo(np.uint64).max)
    for start in range(0, len(phrases), 1000):
        part = _mixed(phrases[start : start + 1000, None] ^ _permutations()[None, :])
        least = np.minimum(least, part.min(axis=0))
    return (least >> np.uint64(32)).astype(np.uint32)


class HeldOut:
    """What held-out prompts say, as hashes: eight bytes for each of their words."""

    def __init__(self, texts: Iterator[list[str]], beat: Callable[[], None]) -> None:
        parts: dict[int, list[Array]] = {length: [] for length in range(SHORT, LONG + 1)}
        self.whole: set[bytes] = set()
        for some in texts:
            for text in some:
                words = word_hashes(text[:READ])
                if len(words) < SHORT:
                    self.whole.add(words.tobytes())
                    continue
                length = min(len(words), LONG)
                parts[length].append(np.unique(grams(words, length)))
            beat()
        self.grams = {length: np.unique(np.concatenate(known)) for length, known in parts.items() if known}

    def leak_into(self, text: str) -> bool:
        words = word_hashes(text)
        if len(words) and words.tobytes() in self.whole:
            return True
        return any(_share_one(grams(words, length), known) for length, known in self.grams.items())


def _share_one(some: Array, known: Array) -> bool:
    """Whether one of `some` is in `known`, which is sorted."""
    places = np.minimum(np.searchsorted(known, some), len(known) - 1)
    return bool((known[places] == some).any())


def drop_contaminated(version: DatasetVersion, held_out: str, beat: Callable[[], None]) -> int:
    """How many prompts of the training side were dropped because of what `held_out` names (see Filters)."""
    kind, _sep, name = held_out.partition(":")
    leaked = HeldOut(_test_prompts(version, int(name)) if kind == "version" else _tagged(version, name), beat)
    dropped = 0
    for rows in _texts(WHOLE, READ, beat, "AND NOT one.is_test"):
        found = [nr for nr, text in rows if leaked.leak_into(text)]
        dropped += len(found)
        _drop("held_out", found)
    return dropped


def _test_prompts(version: DatasetVersion, number: int) -> Iterator[list[str]]:
    """The texts of another version's test side, out of its files."""
    other = DatasetVersion.objects.get(project=version.project_id, number=number)
    seen: set[str] = set()
    for batch in stored_batches(other, ["prompt_id", "prompt", "split"], AT_ONCE):
        held = batch.filter(pc.equal(batch["split"], "test")).to_pylist()
        fresh = {row["prompt_id"]: row["prompt"] for row in held if row["prompt_id"] not in seen}
        seen.update(fresh)
        yield [
            "\n".join(message["content"] for message in prompt if message["role"] != "system")
            for prompt in fresh.values()
        ]


def _tagged(version: DatasetVersion, tag: str) -> Iterator[list[str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM annotate_prompt WHERE project_id = %s AND %s = ANY(tags)", [version.project_id, tag]
        )
        ids = [pk for (pk,) in cursor.fetchall()]
    for start in range(0, len(ids), AT_ONCE):
        with connection.cursor() as cursor:
            cursor.execute(TAGGED, [ids[start : start + AT_ONCE]])
            yield [text for (text,) in cursor.fetchall() if text]


def _texts(sql: str, read: int, beat: Callable[[], None], more: str = "") -> Iterator[list[tuple[int, str]]]:
    """(nr, text) of the prompts that are left."""
    with connection.cursor() as cursor:
        cursor.execute(NUMBERED)
        cursor.execute("SELECT coalesce(max(nr), 0) FROM podium_prompt WHERE dropped_by IS NULL")
        last = cursor.fetchone()[0]
        cursor.execute("CREATE INDEX IF NOT EXISTS podium_prompt_nr ON podium_prompt (nr)")
    sql = sql.replace("ORDER BY one.nr", f"{more} ORDER BY one.nr")
    for first in range(1, last + 1, AT_ONCE):
        with connection.cursor() as cursor:
            cursor.execute(sql, {"first": first, "last": first + AT_ONCE - 1, "read": read})
            rows = [(nr, text or "") for nr, text in cursor.fetchall()]
        beat()
        yield rows


def _drop(step: str, numbers: list[int]) -> None:
    if numbers:
        with connection.cursor() as cursor:
            cursor.execute(DROP, [step, numbers])
