"""Whether a completion's mathematical answer equals the prompt's reference answer: 1/2, 0.5 and 50 % agree.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.2.2, accuracy rewards. The comparison is math-verify's, in a process of its own
(equality.py) that ends when an expression takes too long: what a policy writes may be 9^9^9^9.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from training.recipes.arguments import ScoringArguments
from training.recipes.rewards import Reward, Sampled
from training.recipes.run_folder import RunFailed, RunFolder

SECONDS = 3.0
REMEMBERED = 10_000  # verdicts: a policy that has settled writes the same answers again and again
SCRIPT = Path(__file__).with_name("equality.py")


class MathVerifier:
    """`verifier(reference, text)`: whether the answer at the end of `text` equals `reference`; None if that is no mathematics.

    Safe to call from several threads. What takes more than `seconds` of computing, or too much memory, counts as not equal.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.process: subprocess.Popen[str] | None = None
        self.lock = threading.Lock()
        self.known: dict[tuple[str, str], bool | None] = {}

    def __call__(self, reference: str, text: str) -> bool | None:
        with self.lock:
            if (reference, text) not in self.known:
                if len(self.known) >= REMEMBERED:
                    self.known.clear()
                self.known[reference, text] = self._ask(reference, text)
            return self.known[reference, text]

    def _ask(self, reference: str, text: str) -> bool | None:
        process = self.process or self._start()
        said = ""
        with contextlib.suppress(BrokenPipeError):
            cast(IO[str], process.stdin).write(json.dumps([reference, text]) + "\n")
            cast(IO[str], process.stdin).flush()
            said = cast(IO[str], process.stdout).readline().strip()
        if said:
            return {"1": True, "0": False, "-": None}[said]
        self._end()
        return False

    def _start(self) -> "subprocess.Popen[str]":
        # A new interpreter, no fork: this process has threads.
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(SCRIPT), str(self.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        if cast(IO[str], self.process.stdout).readline() != "ready\n":
            self._end()
            raise RunFailed(
                "bad_arguments", "The reward “accuracy” cannot start: the package math-verify is not there."
            )
        return self.process

    def _end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def close(self) -> None:
        with self.lock:
            self._end()


def make_reward(folder: RunFolder, arguments: ScoringArguments) -> Reward:
    verifier = MathVerifier()

    def accuracy(completions: Sequence[Sampled]) -> list[float | None]:
        """1 for the reference answer, 0 for another or none; nothing where the prompt has no mathematical reference answer."""
        return [score(verifier, one) for one in completions]

    return accuracy


def score(verifier: MathVerifier, completion: Sampled) -> float | None:
    if not completion.reference.strip():
        return None
    agreed = verifier(completion.reference, completion.answer)
    return None if agreed is None else float(agreed)
