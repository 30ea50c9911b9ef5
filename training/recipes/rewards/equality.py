"""Whether mathematical answers agree, as a process of its own: a line in, a line out.

    in   ["reference answer", "text that ends in an answer"]
    out  1 they agree · 0 they do not · - the reference holds nothing mathematical

On math-verify, which reads LaTeX and plain numbers into SymPy. Its own time limits need the main thread's signal handlers and do
not stop an arithmetic that goes on inside one operation, so they are off: here the system ends the whole process once it has computed
for too long (its own time, so that a busy machine changes no verdict), and whoever asked starts another. Memory is limited as well. Run as a script, so that it imports nothing of the recipes.
"""

import json
import re
import resource
import signal
import sys
from typing import Any

from math_verify import parse, verify

MEMORY = 2 * 1024**3
# Beyond this an answer is prose. Also keeps the regular expressions of math-verify from text on which they take long.
LONGEST = 2000
COMMAND = re.compile(r"\\[a-zA-Z]+")
WORD = re.compile(r"[^\W\d_]{2,}")
FORMULA = re.compile(r"[\\^_]|[^\W\d]|[(\[{].*,")
LABEL = re.compile(r"^\W*[^\W\d_][\w ]{0,40}:\s")
SCIENTIFIC = re.compile(r"(?<![\w.])([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d+)(?!\w)")
RATIO = re.compile(r"\d+(?:\s*:\s*\d+)+")
TIMES_TEN = re.compile(r"(?<=\d)\s*[x×·]\s*(?=10\s*\^)")
SQUARE_UNIT = re.compile(r"(?<=\d)\s*(?:[mck]?m|in|ft|yd|mi)\s*(?:\^\{?[23]\}?|[²³])")
DELIMITER = re.compile(r"\$|\\\(|\\\[|\\boxed")


def agree(reference: str, text: str) -> bool | None:
    """None when the reference holds nothing mathematical."""
    if RATIO.fullmatch(reference.strip()):  # a clock time or a ratio, of which math-verify reads the first number alone
        found = RATIO.findall(text)
        return bool(found) and "".join(found[-1].split()) == "".join(reference.split())
    wanted = read_answer(reference)
    if not wanted:
        return None
    return bool(verify(wanted, read_answer(text), timeout_seconds=None))


def read_answer(text: str) -> list[Any]:
    """The answer at the end of a text: after the last ####, else in the last \\boxed{}, else in the last line that holds one.

    What math-verify makes of it: a SymPy expression in a list, which is empty when nothing was found.
    """
    text = text.replace("\\$", "").replace("\\!", "").replace("−", "-").strip()[-LONGEST:]
    _, mark, after = text.rpartition("####")
    if mark:
        return read(after.partition("\n")[0])
    if boxed := last_boxed(text):
        return read(boxed)
    lines = [line for line in text.splitlines() if line.strip()]
    return (read(lines[-1]) if lines else []) or read(text)


def read(text: str) -> list[Any]:
    text = LABEL.sub("", text.strip()).rstrip(".").strip("*_~≈ ")
    text = TIMES_TEN.sub("*", SQUARE_UNIT.sub("", SCIENTIFIC.sub(r"\1*10^(\2)", text)))
    if not DELIMITER.search(text):
        text = text.replace("\\%", "%")
        # A bare formula, which math-verify reads between delimiters alone.
        if FORMULA.search(text) and not WORD.search(COMMAND.sub("", text)):
            percent = "%" if text.endswith("%") else ""
            found = _parse(f"${text.replace('**', '^').replace('%', '')}${percent}")
            if found:
                return found
    return _parse(text)


def _parse(text: str) -> list[Any]:
    # What cannot be read must not be compared as a string: "?" would equal "?".
    return list(parse(text, fallback_mode="no_fallback", parsing_timeout=None))


def last_boxed(text: str) -> str:
    """`\\boxed{…}` with its braces in balance; empty if there is none."""
    start = text.rfind("\\boxed{")
    depth = 0
    for at in range(start, len(text)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if text[at] == "}" and depth == 0:
            return text[start : at + 1]
    return ""


def serve(seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    agree("$\\frac{1}{2}$", "0.5")  # what is loaded and compiled at the first use is not charged to the first answer
    print("ready", flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reference, text = json.loads(line)
        try:
            agreed = agree(reference, text)
        except Exception:  # whatever SymPy makes of what a model wrote: it is no equal answer
            agreed = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print({True: "1", False: "0", None: "-"}[agreed], flush=True)


if __name__ == "__main__":
    serve(float(sys.argv[1]))
