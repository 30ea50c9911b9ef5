"""The share of a completion's words that are in the wanted language.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.3.2: models that reason by reinforcement alone mix languages.

On py3langid, which ships its model. Text is cut by script first, then into pieces long enough to tell a language by. What has no
language (code, formulas, numbers, names of variables) does not count.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from training.recipes.arguments import ScoringArguments
from training.recipes.rewards import Reward, Sampled
from training.recipes.run_folder import RunFailed, RunFolder

NO_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[a-zA-Z]+|https?://\S+"
    r"|</?(?:think|answer)>",
    re.DOTALL,
)
WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
PIECE_BYTES = 30  # of UTF-8: shorter sentences are joined with the next short one in the same script
# Scripts without spaces, with how many letters make a word.
UNSPACED = {"CJK": 2, "THAI": 4, "LAO": 4, "KHMER": 4, "MYANMAR": 4}
# Of close relatives (Portuguese and Galician) the detector cannot be sure: this share of the best guess's probability will do.
NEARLY = 0.5


def make_reward(folder: RunFolder, arguments: ScoringArguments) -> Reward:
    wanted = arguments.reward_language.strip().lower()
    if wanted and wanted not in identifier().labels:
        known = ", ".join(sorted(identifier().labels))
        raise RunFailed("bad_arguments", f"“{wanted}” is no language that can be told. These are: {known}.")

    def language(completions: Sequence[Sampled]) -> list[float | None]:
        """0 to 1; nothing where a completion has no words, or where its prompt's own language cannot be told."""
        return [
            share_of(target, one.completion) if (target := wanted or language_of(last_words(one))) else None
            for one in completions
        ]

    return language


@functools.cache
def identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def last_words(completion: Sampled) -> str:
    """What the completion answers."""
    return next((message["content"] for message in reversed(completion.prompt) if message["role"] == "user"), "")


def language_of(text: str) -> str:
    """The code of the language that most words of `text` are in; empty if it has no words."""
    words: dict[str, float] = {}
    for piece, weight in pieces(text):
        best = max(probabilities(piece).items(), key=lambda item: item[1])[0]
        words[best] = words.get(best, 0) + weight
    words.pop("zxx", None)  # the detector's name for what is no language
    return max(words, key=lambda code: words[code], default="")


def share_of(wanted: str, text: str) -> float | None:
    """The share of the words of `text` that are in the language `wanted`; None if it has no words."""
    all_words = wanted_words = 0.0
    for piece, weight in pieces(text):
        found = probabilities(piece)
        best = max(found.values())
        if found.get("zxx", 0) < best:
            all_words += weight
            wanted_words += weight if found.get(wanted, 0) >= NEARLY * best else 0
    return wanted_words / all_words if all_words else None


@functools.lru_cache(maxsize=4096)
def probabilities(piece: str) -> dict[str, float]:
    return dict(identifier().rank(piece))


def pieces(text: str) -> Iterator[tuple[str, float]]:
    """(piece in one script, number of its words). Short sentences are joined with each other until a language can be told."""
    waiting: dict[str, list[str]] = {}
    for sentence in SENTENCE_END.split(NO_LANGUAGE.sub(" ", text)):
        for script, words in by_script(sentence):
            if len(_join(script, words).encode()) < PIECE_BYTES:
                words = waiting.setdefault(script, []) + words
                waiting[script] = words
            if len(_join(script, words).encode()) >= PIECE_BYTES:
                if waiting.get(script) is words:
                    del waiting[script]
                yield _join(script, words), _weight(script, words)
    for script, words in waiting.items():
        yield _join(script, words), _weight(script, words)


def by_script(sentence: str) -> Iterator[tuple[str, list[str]]]:
    """Runs of words in one script. Single letters are names of variables, but for scripts in which a letter is a word."""
    script, run = "", list[str]()
    for word in WORD.findall(sentence):
        for part_script, part in _parts(word):
            if part_script not in UNSPACED and len(part) < 2:
                continue
            if part_script != script and run:
                yield script, run
                run = []
            script = part_script
            run.append(part)
    if run:
        yield script, run


def _parts(word: str) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    for letter in word:
        script = _script(letter) if letter.isalpha() else (parts[-1][0] if parts else "LATIN")
        if parts and parts[-1][0] == script:
            parts[-1] = script, parts[-1][1] + letter
        else:
            parts.append((script, letter))
    return parts


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    script = unicodedata.name(letter, "OTHER").split()[0]
    return "CJK" if script.startswith(("HIRAGANA", "KATAKANA", "CJK")) else script


def _join(script: str, words: list[str]) -> str:
    return ("" if script in UNSPACED else " ").join(words)


def _weight(script: str, words: list[str]) -> float:
    return sum(map(len, words)) / UNSPACED[script] if script in UNSPACED else len(words)
