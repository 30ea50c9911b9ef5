"""Judges: language models that answer questions about completions. An OpenAI-compatible endpoint, or a checkpoint in the role `judge`.

The endpoint comes from the environment that the worker hands to recipes which need it: JUDGE_URL (up to and with /v1), JUDGE_MODEL,
JUDGE_API_KEY (may be empty), JUDGE_TIMEOUT in seconds, JUDGE_CONCURRENCY. The key goes into no message and no file.
"""

import json
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2 as httpx
import torch

from training.recipes.models import load_causal_lm, load_tokenizer
from training.recipes.run_folder import Messages, RunFailed, RunFolder
from training.recipes.sampling import Sampler, Settings, TransformersSampler

MAX_TOKENS = 512
TRIES = 5
LONGEST_PAUSE = 20.0  # seconds
LARGEST_REPLY = 1024 * 1024
BATCH = 8
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class Judge(Protocol):
    name: str

    def __call__(self, questions: Sequence[Messages], *, vary: bool = False) -> list[str]:
        """One reply per question. `vary` asks for something else than the likeliest reply. Raises RunFailed."""
        ...


def load_judge(folder: RunFolder) -> Judge:
    """The run's own judge if a checkpoint plays that role, else the server's endpoint."""
    if "judge" in folder.inputs:
        return LocalJudge(folder)
    url, model = os.environ.get("JUDGE_URL", ""), os.environ.get("JUDGE_MODEL", "")
    if not url or not model:
        raise RunFailed(
            "bad_arguments", "There is no judge: choose a checkpoint for it, or set JUDGE_URL and JUDGE_MODEL."
        )
    return Endpoint(
        url,
        model,
        key=os.environ.get("JUDGE_API_KEY", ""),
        timeout=float(os.environ.get("JUDGE_TIMEOUT") or 60),
        concurrency=int(os.environ.get("JUDGE_CONCURRENCY") or 8),
    )


class LocalJudge:
    """A checkpoint that answers in this process."""

    def __init__(self, folder: RunFolder) -> None:
        model = folder.model("judge")
        self.name = folder.names.get("judge") or str(model["location"])
        policy = load_causal_lm(model).to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.sampler: Sampler = TransformersSampler(policy, load_tokenizer(folder, model))

    def __call__(self, questions: Sequence[Messages], *, vary: bool = False) -> list[str]:
        settings = Settings(
            num_generations=1, temperature=0.7 if vary else 0, top_p=1, max_new_tokens=MAX_TOKENS, seed=0
        )
        # Its own random numbers: the run that asks must go on from its own.
        with torch.random.fork_rng():
            return [
                sampled[0].text
                for start in range(0, len(questions), BATCH)
                for sampled in self.sampler(list(questions[start : start + BATCH]), settings)
            ]


class Endpoint:
    """POST URL/chat/completions. What may pass (no connection, 429, 5xx) is tried again, a little later each time."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str = "",
        timeout: float = 60,
        concurrency: int = 8,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url, self.model, self.key = f"{url.rstrip('/')}/chat/completions", model, key
        self.timeout, self.concurrency, self.pause = timeout, concurrency, pause
        self.name = f"{model} at {urlsplit(url).hostname}"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.Client(headers=headers, timeout=timeout)
        self.random = random.Random()  # noqa: S311 - only spreads the tries in time

    def __call__(self, questions: Sequence[Messages], *, vary: bool = False) -> list[str]:
        replies = [""] * len(questions)
        waiting, errors, given_up = deque(enumerate(questions)), list[BaseException](), threading.Event()

        def work() -> None:
            while not given_up.is_set():
                try:
                    at, question = waiting.popleft()
                except IndexError:
                    return
                try:
                    replies[at] = self._ask(question, 0.7 if vary else 0.0, given_up)
                except BaseException as error:
                    errors.append(error)
                    given_up.set()  # one that cannot be answered ends the run: the others need not wait

        # Daemons, so that a run that is told to stop waits for no answer.
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.concurrency, len(questions)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return replies

    def _ask(self, question: Messages, temperature: float, given_up: threading.Event) -> str:
        body = {"model": self.model, "messages": question, "temperature": temperature, "max_tokens": MAX_TOKENS}
        problem, wait = "", 0.0
        for attempt in range(TRIES):
            if wait:
                self.pause(wait)
            if given_up.is_set():
                raise RunFailed("reward_failed", f"The judge {self.name} was given up.")
            wait = min(LONGEST_PAUSE, 0.5 * 2**attempt * (1 + self.random.random()))
            try:
                status, headers, content = self._post(body)
            except (httpx.RequestError, TimeoutError) as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if status == 200:
                if (text := reply_text(content)) is not None:
                    return text
                problem = f"it sent what is no chat completion: {self._excerpt(content)}"
            elif status in PASSING:
                problem = f"status {status}: {self._excerpt(content)}"
                asked_for = headers.get("retry-after", "")
                if asked_for.isdecimal():
                    wait = min(LONGEST_PAUSE, max(wait, float(asked_for)))
            else:
                raise RunFailed(
                    "reward_failed", f"The judge {self.name} refused: status {status}: {self._excerpt(content)}"
                )
        raise RunFailed("reward_failed", f"The judge {self.name} did not answer in {TRIES} tries. Last, {problem}")

    def _post(self, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        """The whole answer within the time limit, which httpx counts from each piece to the next."""
        ends = time.monotonic() + self.timeout
        with self.client.stream("POST", self.url, json=body) as response:
            content = b""
            for part in response.iter_bytes():
                content += part
                if time.monotonic() > ends:
                    raise TimeoutError(f"no whole answer in {self.timeout:g} seconds")
                if len(content) > LARGEST_REPLY:
                    raise TimeoutError("the answer would not end")
            return response.status_code, response.headers, content

    def _excerpt(self, content: bytes) -> str:
        text = " ".join(content.decode("utf-8", "replace").split())[:300]
        return text.replace(self.key, "…") if self.key else text


def reply_text(content: bytes) -> str | None:
    """The text of a chat completion; None if `content` is none."""
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return text if isinstance(text, str) else None
