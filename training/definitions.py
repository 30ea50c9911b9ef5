"""A pipeline's definition: TOML in, checked stages out. Knows no database; what a project must have is checked where a run starts.

docs/pipelines.md describes the file.
"""

import re
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from datetime import date, datetime
from typing import Any, Literal, get_args, get_origin, get_type_hints

from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.services.datasets import CHOICES, Filters
from training.recipes.arguments import METHODS, InvalidArguments, Method, parse_arguments

DATASET, PROMOTE = "dataset", "promote"
PROMOTED, CHECKPOINT, VERSION = "promoted", "checkpoint:", "version:"
LONGEST, MOST_STAGES = 64 * 1024, 40
# What tomllib remembers of a key grows with the square of its parts: 64 KiB of a.a.a.… would take gigabytes.
MOST_DOTS = 200
STAGE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
TEST_FRACTION = 0.1

# A causal_lm, a reward_model or a dataset; nothing that feeds another stage for the rest.
Made = Literal["causal_lm", "reward_model", "dataset", ""]


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field of one stage; both are empty where it is the whole text."""

    stage: str
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (", ".join(filter(None, (self.stage, self.field))), self.message)))


class InvalidPipeline(ValueError):
    def __init__(self, problems: list[Problem], definition: "Definition | None" = None) -> None:
        """`definition` holds what could be read nevertheless."""
        self.problems, self.definition = problems, definition
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True)
class Stage:
    """`inputs` and `dataset` are references: `sft`, `reward.watchdog`, `promoted`, `checkpoint:NAME`, `version:3`."""

    name: str
    method: str
    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    dataset: str = ""
    after: tuple[str, ...] = ()
    note: str = ""

    @property
    def references(self) -> dict[str, str]:
        """Field → reference, the dataset's among them."""
        return {**self.inputs, **({"dataset": self.dataset} if self.dataset else {})}

    @property
    def feeds(self) -> list[tuple[str, str, str]]:
        """(field, stage, output) of each reference to another stage."""
        parts = {role: stage_and_output(text) for role, text in self.references.items() if not is_given(text)}
        return [(role, *part) for role, part in parts.items()]

    @property
    def waits_for(self) -> list[str]:
        """The stages that must have succeeded before this one starts."""
        return list(dict.fromkeys([*(stage for _role, stage, _output in self.feeds), *self.after]))


@dataclass(frozen=True)
class Definition:
    title: str
    description: str
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def given(self) -> dict[str, str]:
        """What it takes from the project: reference → the kind of thing that it must be."""
        return {
            text: wanted_kind(stage, role)
            for stage in self.stages
            for role, text in stage.references.items()
            if is_given(text)
        }


def is_given(reference: str) -> bool:
    """Whether it names something of the project, rather than what another stage makes."""
    return reference == PROMOTED or reference.startswith((CHECKPOINT, VERSION))


def stage_and_output(reference: str) -> tuple[str, str]:
    """`reward.watchdog` → its stage and its output. `sampled.dataset` is the main one, as `sampled` is."""
    stage, _dot, output = reference.partition(".")
    return stage, "" if output == DATASET else output


def wanted_kind(stage: Stage, role: str) -> str:
    if role == DATASET:
        return DATASET
    return "causal_lm" if stage.method == PROMOTE else METHODS[stage.method].inputs[role].kind


def made_kind(stage: Stage, output: str) -> Made | None:
    """What the stage makes under this name; None if it makes nothing of this name."""
    if stage.method == DATASET:
        return "dataset" if not output else None
    method = METHODS.get(stage.method)
    if method is None:
        return "" if not output else None
    if output:
        return "reward_model" if output in method.outputs else None
    return method.makes if method.makes in ("causal_lm", "reward_model", "dataset") else ""


def parse_definition(text: str) -> Definition:
    """Raises InvalidPipeline with everything that is wrong, each by stage and field."""
    if len(text) > LONGEST:
        raise InvalidPipeline([Problem("", "", _("A definition has at most %(n)s characters.") % {"n": LONGEST})])
    try:
        if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
            raise RecursionError
        data = tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = _("This is not TOML: %(why)s") % {"why": str(error) or _("it is nested too deeply")}
        raise InvalidPipeline([Problem("", "", reason)]) from error
    except ValueError as error:  # an impossible date, a number with thousands of digits
        raise InvalidPipeline([Problem("", "", _("This is not TOML: %(why)s") % {"why": error})]) from error
    problems: list[Problem] = []
    for name in data.keys() - {"title", "description", "stages"}:
        problems.append(Problem("", name, _("There is no such field; stages are tables: [stages.NAME].")))
    words = {name: _text(data, name, 300, "", problems) for name in ("title", "description")}
    tables = data.get("stages")
    if not isinstance(tables, dict) or not tables:
        problems.append(Problem("", "stages", _("There is no stage. Each stage is a table: [stages.NAME].")))
        raise InvalidPipeline(problems)
    if len(tables) > MOST_STAGES:
        problems.append(Problem("", "stages", _("A pipeline has at most %(n)s stages.") % {"n": MOST_STAGES}))
        raise InvalidPipeline(problems)
    stages = tuple(
        stage for name, table in tables.items() if (stage := _parse_stage(name, table, problems)) is not None
    )
    definition = Definition(words["title"], words["description"], stages)
    known = {stage.name: stage for stage in stages}
    for stage in stages:
        problems += _wrong_references(stage, known, tables)
    problems += _cycles(known)
    if problems:
        raise InvalidPipeline(problems, definition)
    return definition


def _parse_stage(name: str, table: Any, problems: list[Problem]) -> Stage | None:
    def wrong(where: str, message: str) -> None:
        problems.append(Problem(name, where, message))

    if not STAGE_NAME.fullmatch(name) or name == PROMOTED:
        wrong("", _("A stage's name has small letters, digits, - and _, starts with a letter, and is not “promoted”."))
    if not isinstance(table, dict):
        wrong("", _("A stage is a table: [stages.NAME]."))
        return None
    kind = table.get("method")
    if kind not in (DATASET, PROMOTE) and (not isinstance(kind, str) or kind not in METHODS):
        known = ", ".join([DATASET, *METHODS, PROMOTE])
        wrong("method", _("Podium knows these: %(names)s.") % {"names": known})
        return None
    method = METHODS.get(kind)
    roles = ["policy"] if kind == PROMOTE else list(method.inputs) if method else []
    takes_dataset = method is not None and method.dataset != "none"
    allowed = ["method", "after", "note", *roles, *(["dataset"] if takes_dataset else [])]
    allowed += ["filters", "test_fraction"] if kind == DATASET else ["arguments"] if method else []
    for one in table.keys() - set(allowed):
        wrong(
            one,
            _("A stage with the method “%(method)s” has these: %(fields)s.")
            % {"method": kind, "fields": ", ".join(allowed)},
        )
    references = {
        role: text
        for role in (*roles, "dataset")
        if role in allowed and role in table and (text := _text(table, role, 200, name, problems))
    }
    dataset = references.pop("dataset", "")
    arguments = (
        _dataset_arguments(table, wrong) if kind == DATASET else _arguments(method, table, wrong) if method else {}
    )
    for role in roles:
        if role not in table and (method is None or method.inputs[role].required):
            wrong(role, _("It is missing: name a stage, “promoted”, or “checkpoint:NAME”."))
    if takes_dataset and method and method.dataset == "needed" and DATASET not in table:
        wrong(DATASET, _("It is missing: name a stage that makes a dataset, or “version:NUMBER”."))
    after = table.get("after", [])
    if not isinstance(after, list) or not all(isinstance(one, str) for one in after):
        wrong("after", _('This is a list of stages: ["one", "two"].'))
        after = []
    note = _text(table, "note", 200, name, problems)
    return Stage(name, kind, arguments, references, dataset, tuple(after), note)


def _arguments(method: Method, table: dict[str, Any], wrong: Callable[[str, str], None]) -> dict[str, Any]:
    values = table.get("arguments", {})
    if not isinstance(values, dict):
        wrong("arguments", _("This is a table: [stages.NAME.arguments]."))
        return {}
    try:
        parse_arguments(method.name, values)
    except InvalidArguments as error:
        for name, reason in error.errors.items():
            wrong(f"arguments.{name}", reason)
    return values


def _dataset_arguments(table: dict[str, Any], wrong: Callable[[str, str], None]) -> dict[str, Any]:
    """{"filters": as Filters.to_json writes them, "test_fraction"} of a stage that freezes rankings."""
    fraction = table.get("test_fraction", TEST_FRACTION)
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 0.5:
        wrong("test_fraction", _("This is a number from 0 to 0.5."))
        fraction = TEST_FRACTION
    values = table.get("filters", {})
    if not isinstance(values, dict):
        wrong("filters", _("This is a table: [stages.NAME.filters]."))
        values = {}
    hints, filters = get_type_hints(Filters), {}
    for name, value in values.items():
        if name not in hints:
            wrong(f"filters.{name}", _("There is no such filter; there are: %(names)s.") % {"names": ", ".join(hints)})
        elif (read := _filter_value(name, hints[name], value)) is None:
            wrong(f"filters.{name}", _filter_help(name, hints[name]))
        else:
            filters[name] = read
    try:
        Filters.from_json(filters)
    except ValueError as error:
        wrong("filters", str(error))
        filters = {}
    return {"filters": filters, "test_fraction": float(fraction)}


def _filter_value(name: str, hint: Any, value: Any) -> Any:
    """The value as JSON has it; None if it is no such thing."""
    if name in CHOICES:
        return value if value in CHOICES[name] else None
    if hint is bool:
        return value if isinstance(value, bool) else None
    if hint is str:
        return value if isinstance(value, str) and "\0" not in value else None
    if get_origin(hint) is tuple:
        whole = isinstance(value, list) and all(isinstance(one, str) and "\0" not in one for one in value)
        return value if whole else None
    if datetime in get_args(hint):
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if not isinstance(value, datetime):
            return None
        return (value if value.tzinfo else timezone.make_aware(value)).isoformat()
    least = -1 if name == "min_agreement" else 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
        return None
    if hint is int:
        return int(value) if value == int(value) else None
    return float(value)


def _filter_help(name: str, hint: Any) -> str:
    if name in CHOICES:
        return _("This is one of %(names)s.") % {"names": ", ".join(CHOICES[name])}
    if hint is bool:
        return _("This is true or false.")
    if hint is str:
        return _("This is a text.")
    if get_origin(hint) is tuple:
        return _("This is a list of texts.")
    return (
        _("This is a day or a moment: 2026-05-01T12:00:00Z.")
        if datetime in get_args(hint)
        else _("This is a number, 0 or more.")
        if name != "min_agreement"
        else _("This is a number from -1 to 1.")
    )


def _text(table: dict[str, Any], name: str, longest: int, stage: str, problems: list[Problem]) -> str:
    value = table.get(name, "")
    if isinstance(value, str) and len(value) <= longest and "\0" not in value and (value or name not in table):
        return value
    problems.append(Problem(stage, name, _("This is a text of at most %(n)s characters.") % {"n": longest}))
    return ""


def _wrong_references(stage: Stage, known: dict[str, Stage], tables: dict[str, Any]) -> list[Problem]:
    wrong = []
    for role, text in stage.references.items():
        wanted = wanted_kind(stage, role)
        if is_given(text):
            message = _wrong_given(text, wanted)
        else:
            message = _wrong_feed(*stage_and_output(text), wanted, known, tables)
        if message:
            wrong.append(Problem(stage.name, role, message))
    rewards = _argument(stage, "rewards") if stage.method in METHODS else None
    if isinstance(rewards, dict) and "reward_model" in rewards and "reward_model" not in stage.inputs:
        wrong.append(
            Problem(stage.name, "reward_model", _("The rewards name it: say which stage or checkpoint it is."))
        )
    for name in stage.after:
        if name not in tables:
            wrong.append(Problem(stage.name, "after", _("There is no stage “%(name)s”.") % {"name": name}))
    return wrong


def _wrong_given(text: str, wanted: str) -> str:
    if wanted == DATASET:
        if text.startswith(VERSION) and text.removeprefix(VERSION).isascii() and text.removeprefix(VERSION).isdigit():
            return ""
        return _("A dataset is a stage that makes one, or “version:NUMBER”.")
    if text.startswith(VERSION):
        return _("A dataset version is no checkpoint.")
    if text == PROMOTED and wanted != "causal_lm":
        return _("The promoted checkpoint is a language model; this must be a reward model.")
    return "" if text != CHECKPOINT else _("Name the checkpoint: “checkpoint:NAME”.")


def _wrong_feed(name: str, output: str, wanted: str, known: dict[str, Stage], tables: dict[str, Any]) -> str:
    if name not in tables:
        return _("There is no stage “%(name)s”.") % {"name": name}
    if name not in known:
        return ""  # that stage's own method is wrong, which is said there
    made = made_kind(known[name], output)
    if made is None:
        return _("The stage “%(name)s” makes nothing called “%(output)s”.") % {"name": name, "output": output}
    if output and not _argument(known[name], output):
        return _(
            "The stage “%(name)s” makes no “%(output)s”: switch it on with %(output)s = true in its arguments."
        ) % {
            "name": name,
            "output": output,
        }
    if made != wanted:
        return _("It must be %(wanted)s; the stage “%(name)s” makes %(made)s.") % {
            "wanted": kind_in_words(wanted),
            "name": name,
            "made": kind_in_words(made),
        }
    return ""


def _argument(stage: Stage, name: str) -> Any:
    """The argument's value as it will be: given, or its default."""
    item = next((one for one in fields(METHODS[stage.method].arguments) if one.name == name), None)
    if item is None:
        return None
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return stage.arguments.get(name, default)


def kind_in_words(kind: str) -> str:
    words = {
        "causal_lm": _("a language model"),
        "reward_model": _("a reward model"),
        "dataset": _("a dataset"),
    }
    return words.get(kind) or _("nothing that feeds another stage")


def _cycles(known: dict[str, Stage]) -> list[Problem]:
    """One problem for each circle of stages that wait for each other."""
    done: set[str] = set()
    found = []

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            circle = path[path.index(name) :]
            if not done.intersection(circle):
                words = " → ".join([*reversed(circle), circle[-1]])
                found.append(Problem(name, "", _("These stages wait for each other: %(circle)s.") % {"circle": words}))
            return
        if name in known and name not in done:
            for other in known[name].waits_for:
                walk(other, [*path, name])
            done.add(name)

    for name in known:
        walk(name, [])
    return found
