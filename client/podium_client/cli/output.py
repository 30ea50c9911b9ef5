"""What commands print: tables for people, tab-separated lines into a pipe, JSON for scripts."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from podium_client.errors import SettingsError
from podium_client.model import Data

Json = Annotated[bool, typer.Option("--json", help="JSON, as the server says it; of a list one line for each item.")]
KEPT = "\n\t"


def clean(text: str) -> str:
    """Without what would command the terminal: texts come from people and models."""
    return "".join(letter if letter.isprintable() or letter in KEPT else "�" for letter in text)


def say(text: str) -> None:
    print(clean(text))


def hint(text: str) -> None:
    """For the person at the terminal, not for what reads the output."""
    print(clean(text), file=sys.stderr)


def show(item: Data | Mapping[str, Any], as_json: bool, *names: str) -> None:
    """One thing: a line for each of its fields named."""
    raw = item.raw if isinstance(item, Data) else item
    if as_json:
        print(_json(raw))
        return
    shown = [(name, _text(getattr(item, name) if isinstance(item, Data) else item[name])) for name in names]
    width = max((len(name) for name, _value in shown), default=0)
    for name, value in shown:
        if value:
            say(f"{name.replace('_', ' '):<{width}}  {value}")


def table(items: Iterable[Data], as_json: bool, *names: str) -> None:
    """A list: a line for each, as it comes into a pipe, aligned on a terminal."""
    if as_json:
        for item in items:
            print(_json(item.raw), flush=True)
        return
    rows = ([_text(getattr(item, name)).replace("\n", " ").replace("\t", " ") for name in names] for item in items)
    if not sys.stdout.isatty():
        for row in rows:
            say("\t".join(row))
        return
    whole = [[name.replace("_", " ") for name in names], *rows]
    widths = [min(40, max(len(row[place]) for row in whole)) for place in range(len(names))]
    for row in whole:
        say("  ".join(f"{value[:40]:<{width}}" for value, width in zip(row, widths, strict=True)).rstrip())


def settings(given: Sequence[str]) -> dict[str, Any]:
    """name=value pairs; a value is JSON where it can be read as such, else a text."""
    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise SettingsError(f"“{one}” should be NAME=VALUE.")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def _json(raw: Any) -> str:
    return json.dumps(raw, ensure_ascii=not (sys.stdout.encoding or "").lower().startswith("utf"))


def _text(value: Any) -> str:
    if value is None or value == "" or value == {} or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
