"""podium methods, checkpoints, promote, chat, evaluations."""

import json
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from podium_client.checkpoints import Checkpoint
from podium_client.client import Podium
from podium_client.errors import PodiumError

from .output import Json, hint, say, show, table
from .projects import Slug, Timeout

app = typer.Typer()
Name = Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its name or number.")]


@app.command()
def methods(as_json: Json = False) -> None:
    """What can be run."""
    with Podium() as podium:
        table(podium.methods(), as_json, "name", "makes", "summary")


@app.command()
def checkpoints(project: Slug, as_json: Json = False) -> None:
    """Checkpoints, newest first."""
    with Podium() as podium:
        found = podium.project(project).checkpoints()
        table(found, as_json, "id", "name", "kind", "run", "parent", "is_promoted")


@app.command()
def promote(project: Slug, checkpoint: Name, note: str = "", as_json: Json = False) -> None:
    """From here on this checkpoint answers the project's prompts."""
    with Podium() as podium:
        show(_find(podium, project, checkpoint).promote(note), as_json, "id", "name", "is_promoted")


@app.command()
def evaluations(
    project: Slug,
    id: Annotated[int | None, typer.Argument(help="One of them, with its tables, as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """What runs of the method `evaluate` have found."""
    with Podium() as podium:
        place = podium.project(project)
        if id is None:
            table(place.evaluations(), as_json, "id", "checkpoints", "dataset", "note", "finished_at")
        else:
            show(place.evaluation(id), True)


@app.command()
def chat(
    project: Slug,
    message: Annotated[str, typer.Argument(help="What to ask; without it a conversation begins.")] = "",
    checkpoint: Annotated[str, typer.Option(help="Its name or number; the promoted one where it is left out.")] = "",
    system: Annotated[str, typer.Option(help="What it is told before.")] = "",
    temperature: float | None = None,
    top_p: float | None = None,
    max_new_tokens: int | None = None,
    seed: int | None = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Talk to a checkpoint. A message from the standard input is answered once, a terminal goes on until Ctrl-D."""
    turns = [{"role": "system", "content": system}] if system else []
    with Podium() as podium:
        model = _find(podium, project, checkpoint)

        def answer(text: str) -> None:
            turns.append({"role": "user", "content": text})
            reply = model.chat(
                turns, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed, timeout=timeout
            )
            turns.append({"role": "assistant", "content": reply.text})
            if as_json:
                print(json.dumps(reply.raw))
            else:
                say(reply.text)

        if message or not sys.stdin.isatty():
            text = message or sys.stdin.read().strip()
            if not text:
                raise PodiumError("There is nothing to answer: no message was given.")
            answer(text)
            return
        hint(f"{model.name} listens. Ctrl-D ends the conversation, /new begins another.")
        _converse(answer, turns)


def _converse(answer: Callable[[str], None], turns: list[dict[str, str]]) -> None:
    kept = list(turns)
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            print()
            return
        if text == "/new":
            turns[:] = kept
        elif text:
            try:
                answer(text)
            except PodiumError as error:
                turns.pop()
                hint(f"podium: {error}")


def _find(podium: Podium, project: str, which: str) -> Checkpoint:
    place = podium.project(project)
    return place.checkpoint(int(which) if which.isdecimal() else which)
