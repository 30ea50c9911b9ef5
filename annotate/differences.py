"""In which words two texts differ: a longest common subsequence of words, found by RapidFuzz."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rapidfuzz.distance import LCSseq

TOKENS_LIMIT = 20_000  # of either text; two of this size take 50 MB and some 0.1 s
FOLD_ABOVE, FOLD_KEEPS = (
    60,
    12,
)  # an equal stretch of more tokens than this is folded but for these, at each side of a change

# Thai, Lao, Japanese and Chinese put no space between words: they are compared sign by sign, and so is punctuation.
UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
# A word with the white space around it.
TOKEN = re.compile(rf"\s*(?:[^\W{UNSPACED}]+(?:[’'][^\W{UNSPACED}]+)*|\S)\s*|\s+")

Stretch = tuple[bool, slice, slice]  # whether it is equal, where it is in the first text's tokens and in the second's


class TooLong(ValueError):
    """A text is too long to be compared. `words` is its length."""

    def __init__(self, words: int) -> None:
        super().__init__(f"a text of {words} words is too long to be compared")
        self.words = words


@dataclass(frozen=True)
class Part:
    """A stretch of both texts. Equal ones may differ in white space; `folded` ones are shown when asked for."""

    kind: Literal["equal", "changed"]
    first: str
    second: str
    folded: bool = False


@dataclass(frozen=True)
class Difference:
    """`parts`, joined, are both texts. `shared` is the share of words in common, 0 to 1: 2 · common / (first + second)."""

    parts: list[Part]
    first_words: int
    second_words: int
    shared: float

    @property
    def is_none(self) -> bool:
        return all(part.kind == "equal" for part in self.parts)


def compare_texts(first: str, second: str) -> Difference:
    """The differences of two texts in words, white space aside. Raises TooLong."""
    tokens_a, tokens_b = TOKEN.findall(first), TOKEN.findall(second)
    for text, tokens in ((first, tokens_a), (second, tokens_b)):
        if len(tokens) > TOKENS_LIMIT:
            raise TooLong(len(text.split()))
    # White space alone is a word of its own: to RapidFuzz an empty string and "\x00" would be equal.
    words_a, words_b = [token.strip() or " " for token in tokens_a], [token.strip() or " " for token in tokens_b]
    stretches: list[Stretch] = [
        (code.tag == "equal", slice(code.src_start, code.src_end), slice(code.dest_start, code.dest_end))
        for code in LCSseq.opcodes(words_a, words_b)
    ]
    common = sum(count_words(words_a[a]) for is_equal, a, _b in stretches if is_equal)
    total = count_words(words_a) + count_words(words_b)
    parts = [
        part
        for is_equal, a, b in join_changes(stretches, words_a)
        for part in make_parts(
            is_equal, tokens_a[a], tokens_b[b], is_first=a.start == b.start == 0, is_last=a.stop == len(tokens_a)
        )
    ]
    return Difference(parts, len(first.split()), len(second.split()), 2 * common / total if total else 1.0)


def count_words(tokens: list[str]) -> int:
    """How many are words; the others are punctuation."""
    return sum(token[:1].isalnum() or token[:1] == "_" for token in tokens)


def join_changes(stretches: list[Stretch], words: list[str]) -> Iterator[Stretch]:
    """The same stretches, neighbouring changes as one; changes with nothing but punctuation between them are neighbours."""
    change: Stretch | None = None
    for number, (is_equal, a, b) in enumerate(stretches):
        is_last = number == len(stretches) - 1
        if is_equal and (change is None or is_last or count_words(words[a])):
            if change:
                yield change
                change = None
            yield True, a, b
        elif change:
            change = (False, slice(change[1].start, a.stop), slice(change[2].start, b.stop))
        else:
            change = (False, a, b)
    if change:
        yield change


def make_parts(is_equal: bool, first: list[str], second: list[str], *, is_first: bool, is_last: bool) -> Iterator[Part]:
    """A stretch as one part, or as three where it is long and equal: its ends stay in sight beside their changes."""
    kind: Literal["equal", "changed"] = "equal" if is_equal else "changed"
    cuts = [0, len(first)]
    if is_equal and len(first) > FOLD_ABOVE and not (is_first and is_last):
        cuts = [0, 0 if is_first else FOLD_KEEPS, len(first) if is_last else len(first) - FOLD_KEEPS, len(first)]
    for number, (start, end) in enumerate(pairwise(cuts)):
        if end > start or not is_equal:
            middle = number == 1
            yield Part(kind, "".join(first[start:end]), "".join(second[start:end] if is_equal else second), middle)
