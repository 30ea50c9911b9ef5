"""A folder of texts, read, cleaned and freed of duplicates, as pre-training takes it.

Cleaning is ftfy's (wrong encodings mended, NFC) and what is left out follows Gopher's rules (arXiv:2112.11446, appendix A) as far as
they hold for any language: too short, mostly signs, mostly repeated lines. Near duplicates are found by MinHash over five-word
phrases (Broder 1997) with datasketch's LSH.
"""

import gzip
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import ftfy
import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH

from training.recipes.run_folder import RunFailed

# A line of this alone parts the texts of one file, as in many public collections.
SEPARATOR = "<|endoftext|>"
PLAIN = (".txt", ".md")
MAX_CHARACTERS = 5_000_000  # of one text; a longer one is cut into texts of this size
READ_AT_ONCE = 1 << 20
PHRASE = 5
PERMUTATIONS = 128
MOST_REPEATED_LINES = 0.3
FEWEST_LETTERS = 0.5
REASONS = {
    "short": "too short",
    "signs": "more signs and digits than letters",
    "repeated_lines": "mostly repeated lines",
    "equal": "equal to another",
    "similar": "nearly the same as another",
}


def find_files(folder: Path) -> list[Path]:
    """The files in and below `folder` that texts can be read from, by name. Links that lead out of it are not followed."""
    if not folder.is_dir():
        raise RunFailed("no_data", f"The folder of texts {folder} is not there.")
    root = folder.resolve()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.resolve().is_relative_to(root)]
    readable = [path for path in files if _kind(path) in (*PLAIN, ".jsonl", ".parquet")]
    if not readable:
        raise RunFailed("no_data", f"{folder} has no *.txt, *.md, *.jsonl or *.parquet file.")
    return readable


def _kind(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def read_texts(path: Path) -> Iterator[str]:
    """The texts of one file as they are: a file or its parts between SEPARATOR lines, or the field `text` of each row.

    Raises RunFailed, which names the file and the line, for what cannot be read.
    """
    try:
        if _kind(path) == ".parquet":
            yield from _read_parquet(path)
            return
        with _open(path) as file:
            yield from _read_jsonl(path, file) if _kind(path) == ".jsonl" else _read_plain(file)
    except (gzip.BadGzipFile, EOFError, pa.ArrowException) as error:
        raise RunFailed("bad_dataset", f"{path.name} is damaged: {error}") from error


def _open(path: Path) -> IO[bytes]:
    opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
    file: IO[bytes] = opened(path, "rb")
    return file


def _read_plain(file: IO[bytes]) -> Iterator[str]:
    lines: list[str] = []
    size = 0
    # A line without an end comes in pieces, so that no file is ever held whole.
    for raw in iter(lambda: file.readline(READ_AT_ONCE), b""):
        line = raw.decode("utf-8", "replace")
        if line.strip() == SEPARATOR or size > MAX_CHARACTERS:
            yield "".join(lines)
            lines, size = [], 0
        if line.strip() != SEPARATOR:
            lines.append(line)
            size += len(line)
    yield "".join(lines)


def _read_jsonl(path: Path, file: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            text = json.loads(line)["text"] if line.strip() else ""
        except (ValueError, KeyError, TypeError) as error:
            raise RunFailed("bad_dataset", f"{path.name}, line {number}: not an object with a field “text”.") from error
        if not isinstance(text, str):
            raise RunFailed("bad_dataset", f"{path.name}, line {number}: its “text” is no text.")
        yield text


def _read_parquet(path: Path) -> Iterator[str]:
    with pq.ParquetFile(path) as file:
        if "text" not in file.schema_arrow.names:
            raise RunFailed("bad_dataset", f"{path.name} has no column “text”.")
        for batch in file.iter_batches(batch_size=1000, columns=["text"]):
            yield from (text for text in batch.column(0).to_pylist() if isinstance(text, str))


def clean(text: str) -> str:
    """`text` with its encoding mended, in NFC, without control characters, trailing spaces and piles of empty lines."""
    mended = ftfy.fix_text(text, uncurl_quotes=False, fix_line_breaks=True, remove_control_chars=True)
    mended = "".join(
        char for char in mended if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs", "Co", "Cn")
    )
    lines = (line.rstrip() for line in mended.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def fault(text: str, min_characters: int) -> str:
    """The key in REASONS why a cleaned text teaches nothing, or an empty text."""
    if len(text) < min_characters:
        return "short"
    letters = sum(char.isalpha() for char in text)
    if letters < FEWEST_LETTERS * sum(not char.isspace() for char in text):
        return "signs"
    lines = [line for line in text.split("\n") if line]
    if len(lines) > 2 and sum(count - 1 for count in Counter(lines).values()) > MOST_REPEATED_LINES * len(lines):
        return "repeated_lines"
    return ""


class Duplicates:
    """Remembers texts by hash and by MinHash: some 1.5 kB for each. `threshold` is the Jaccard similarity of two texts' phrases."""

    def __init__(self, threshold: float) -> None:
        self.seen: set[bytes] = set()
        # Candidates are compared again, so missing one is the worse of the two errors.
        settings = {"threshold": threshold, "num_perm": PERMUTATIONS, "weights": (0.05, 0.95)}
        self.similar = MinHashLSH(**settings) if threshold < 1 else None
        self.threshold = threshold
        self.hashes: dict[int, Any] = {}

    def fault(self, text: str) -> str:
        """ "equal", "similar" or empty. A text without fault is remembered."""
        words = text.casefold().split()
        digest = hashlib.sha256(" ".join(words).encode("utf-8", "replace")).digest()
        if digest in self.seen:
            return "equal"
        self.seen.add(digest)
        if self.similar is None:
            return ""
        phrases = {
            " ".join(words[at : at + PHRASE]).encode("utf-8", "replace")
            for at in range(max(1, len(words) - PHRASE + 1))
        }
        hashed = MinHash(num_perm=PERMUTATIONS, seed=1)
        hashed.update_batch(sorted(phrases))
        if any(self.hashes[key].jaccard(hashed) >= self.threshold for key in self.similar.query(hashed)):
            return "similar"
        key = len(self.hashes)
        self.hashes[key] = hashed
        self.similar.insert(key, hashed)
        return ""


def kept_texts(texts: Iterable[str], *, min_characters: int, threshold: float, counts: "Counter[str]") -> Iterator[str]:
    """The cleaned texts worth learning from. `counts` gains "read", "kept" and the keys of REASONS."""
    duplicates = Duplicates(threshold)
    for text in texts:
        if not text.strip():
            continue
        counts["read"] += 1
        cleaned = clean(text)
        reason = fault(cleaned, min_characters) or duplicates.fault(cleaned)
        counts[reason or "kept"] += 1
        if not reason:
            yield cleaned


def is_held_out(text: str, fraction: float) -> bool:
    """By the text's own hash: the same text is on the same side whatever else is in the folder."""
    share = int(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8], 16) / 2**32
    return share < fraction
