"""Shapes in which others publish preferences and conversations: recognised by their first rows, and read as Podium's own rows.

An adapter only moves things to where Podium looks for them; `annotate.formats.importing.shapes.to_row` alone checks what comes out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from annotate.formats.importing.errors import MAX_LINE, FileError, RowError
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.records import Record
from annotate.formats.importing.renaming import renamed
from annotate.models import K_MAX

from . import dialogues, scored
from .arena import fits_arena, from_arena
from .argilla import fits_argilla, from_argilla
from .columns import Column, columns_of
from .common import Gathered, Raw
from .label_studio import fits_label_studio, from_label_studio

__all__ = ["SHAPES", "Column", "Shape", "columns_of", "detect", "gathered", "recognised"]

SAMPLE = 50
SAMPLE_BYTES = 8 * 1024**2
# Of the rows that are looked at, so many must fit.
MOST = 0.6
# What comes of looking for something where a row has something else.
UNEXPECTED = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Shape:
    """`fits` a raw row, `convert` makes it an own one. With `is_gathered`, rows of one prompt that follow one another are one."""

    name: str
    label: str | Promise
    description: str | Promise
    fits: Callable[[Raw], bool]
    convert: Callable[[Raw], Raw]
    is_gathered: bool = False

    def suits(self, value: Raw) -> bool:
        """Whether a row looks like this shape, whatever it holds."""
        try:
            return self.fits(value)
        except UNEXPECTED:
            return False

    def adapt(self, value: Raw, mapping: Mapping) -> Raw:
        """The row as Podium's own, its columns renamed first. RowError where the row is not of this shape."""
        return self.adapted(value, mapping)[0]

    def adapted(self, value: Raw, mapping: Mapping) -> tuple[Raw, dict[str, str]]:
        """The same, with {Podium's name: the file's own} of the columns that were renamed."""
        rows = [renamed(row, mapping) for row in value["rows"]] if isinstance(value, Gathered) else []
        rest, names = rows[0] if rows else renamed(value, mapping)
        if rows:
            rest = Gathered(rows=[row for row, _names in rows])
        try:
            return self.convert(rest), names
        except UNEXPECTED as error:
            reason = gettext("The row is not of the shape “%(shape)s”.")
            raise RowError("", reason % {"shape": self.label}) from error


def _own(value: Raw) -> Raw:
    return value


def _is_ranking(value: Raw) -> bool:
    return {"ranks", "completions", "prompt"} <= set(value)


def _never(value: Raw) -> bool:
    return False


# In the order in which they are tried: where two fit equally well, the first is taken.
_ALL = (
    Shape(
        "ranking",
        _("Podium's own export"),
        _("One ranking a row, as a dataset version's shape “ranking” has it; nothing is lost on the way."),
        _is_ranking,
        _own,
    ),
    Shape(
        "label-studio",
        _("Label Studio"),
        _("JSON or JSON-MIN export of a pairwise comparison or a ranker; each annotation is a ranking."),
        fits_label_studio,
        from_label_studio,
    ),
    Shape(
        "argilla",
        _("Argilla records"),
        _(
            "Records with ranking or rating questions; each person's answers are a ranking, suggestions where nobody answered."
        ),
        fits_argilla,
        from_argilla,
    ),
    Shape(
        "arena",
        _("Chatbot Arena votes"),
        _("Two models' conversations and a winner; “tie (bothbad)” means that all are bad."),
        fits_arena,
        from_arena,
    ),
    Shape(
        "openai-preference",
        _("OpenAI preference fine-tuning"),
        _("input, preferred_output and non_preferred_output."),
        dialogues.fits_openai_preference,
        dialogues.from_openai_preference,
    ),
    Shape(
        "helpsteer-preference",
        _("HelpSteer preferences"),
        _("Two responses and a preference from −3 to 3; single annotators' preferences where they are given."),
        scored.fits_helpsteer_pair,
        scored.from_helpsteer_pair,
    ),
    Shape(
        "ultrafeedback",
        _("UltraFeedback"),
        _("An instruction and completions with models, ratings by aspect and an overall score, which orders them."),
        scored.fits_ultrafeedback,
        scored.from_ultrafeedback,
    ),
    Shape(
        "scored-pairs",
        _("Preference pairs with scores or models"),
        _("chosen and rejected as in binarized UltraFeedback or RewardBench; equal scores are a tie."),
        scored.fits_scored_pair,
        scored.from_scored_pair,
    ),
    Shape(
        "scored-list",
        _("Answers with a list of scores"),
        _("A prompt, a list of answers and a list of as many scores; higher is better, equal is a tie."),
        scored.fits_scored_list,
        scored.from_scored_list,
    ),
    Shape(
        "helpsteer",
        _("HelpSteer attributes"),
        _(
            "One response a row with helpfulness and other attributes; neighbouring rows of one prompt are ranked by helpfulness."
        ),
        scored.fits_helpsteer,
        scored.from_helpsteer,
        is_gathered=True,
    ),
    Shape(
        "hh",
        _("Anthropic HH dialogues"),
        _("chosen and rejected are whole dialogues as text, which share all but the last answer."),
        dialogues.fits_hh,
        dialogues.from_hh,
    ),
    Shape(
        "sharegpt",
        _("ShareGPT conversations"),
        _("conversations of from and value; the last answer is a completion, those before belong to the prompt."),
        dialogues.fits_sharegpt,
        dialogues.from_sharegpt,
    ),
    Shape(
        "stepwise",
        _("TRL: stepwise supervision"),
        _("A prompt, the steps of one answer and a label for each; the steps become one completion."),
        scored.fits_stepwise,
        scored.from_stepwise,
    ),
    Shape(
        "unpaired",
        _("TRL: unpaired preference"),
        _("A completion with a label, good or bad; neighbouring rows of one prompt are ranked by their labels."),
        scored.fits_unpaired,
        scored.from_unpaired,
        is_gathered=True,
    ),
    Shape(
        "chat",
        _("OpenAI chat, TRL: language modeling"),
        _("messages of role and content; the last answer is a completion, those before belong to the prompt."),
        dialogues.fits_chat,
        dialogues.from_chat,
    ),
    Shape(
        "alpaca",
        _("Alpaca instructions"),
        _("instruction, an optional input, and output."),
        dialogues.fits_alpaca,
        dialogues.from_alpaca,
    ),
    Shape(
        "text",
        _("Texts alone"),
        _("A text of “Human:” and “Assistant:” turns; any other text says not where its prompt ends."),
        dialogues.fits_text,
        dialogues.from_text,
    ),
    Shape(
        "podium",
        _("Podium's own columns, TRL's preference, prompt-completion and prompt-only"),
        _(
            "prompt or messages; completions, chosen and rejected, or completion_1 …; known_order, rankings, tags, metadata."
        ),
        _never,
        _own,
    ),
)
SHAPES: dict[str, Shape] = {shape.name: shape for shape in _ALL}


def detect(values: Sequence[Raw], mapping: Mapping | None = None) -> Shape | None:
    """The public shape that fits most of these rows best, once their columns are renamed; None if none fits six in ten.

    None also where the rows have Podium's own columns, which need no adapter.
    """
    rows = [_renamed_or_not(value, mapping) for value in values[:SAMPLE]]
    counts = {shape.name: sum(map(shape.suits, rows)) for shape in _ALL}
    best = max(counts, key=lambda name: counts[name])
    return SHAPES[best] if rows and counts[best] >= MOST * len(rows) else None


def _renamed_or_not(value: Raw, mapping: Mapping | None) -> Raw:
    if mapping is None or mapping == Mapping():
        return value
    try:
        return renamed(value, mapping)[0]
    except RowError:
        return value


def recognised(records: Iterator[Record], mapping: Mapping) -> tuple[Mapping, Iterator[Record]]:
    """The mapping with its shape, seen by the first rows if it names none, and the records as that shape reads them."""
    first: list[Record] = []
    size = 0
    broken: FileError | None = None
    try:
        while len(first) < SAMPLE and size < SAMPLE_BYTES and (one := next(records, None)):
            first.append(one)
            size += _size(one)
    except FileError as error:
        broken = error
    if not mapping.shape:
        shape = detect([one.value for one in first if one.value], mapping)
        mapping = replace(mapping, shape=shape.name if shape else "")
    return mapping, gathered(_all(first, records, broken), mapping)


def _all(first: list[Record], records: Iterator[Record], broken: FileError | None) -> Iterator[Record]:
    """The rows before a break come first, then it is told."""
    yield from first
    if broken:
        raise broken
    yield from records


def gathered(records: Iterator[Record], mapping: Mapping) -> Iterator[Record]:
    """Records that follow one another with the same prompt as one, where the mapping's shape reads them so; its line is the first's.

    At most nine rows and 16 MB of them are held.
    """
    shape = SHAPES.get(mapping.shape)
    if shape is None or not shape.is_gathered:
        yield from records
        return
    column = mapping.prompt or "prompt"
    held: list[Record] = []
    size = 0
    broken: FileError | None = None
    while True:
        try:
            one = next(records, None)
        except FileError as error:
            broken, one = error, None
        if one is None:
            break
        size += _size(one)
        if held and (len(held) == K_MAX or size > MAX_LINE or not _is_same_prompt(held[0], one, column)):
            yield _joined(held)
            held, size = [], _size(one)
        if one.value is None:
            yield one
        else:
            held.append(one)
    if held:
        yield _joined(held)
    if broken:
        raise broken


def _size(one: Record) -> int:
    return len(one.raw) or len(one.original)


def _is_same_prompt(first: Record, one: Record, column: str) -> bool:
    if first.value is None or one.value is None or one.member != first.member:
        return False
    return column in one.value and one.value[column] == first.value.get(column)


def _joined(held: list[Record]) -> Record:
    if len(held) == 1:
        return held[0]
    first = held[0]
    return Record(
        first.line,
        Gathered(rows=[one.value for one in held]),
        raw=b"".join(one.raw for one in held),
        member=first.member,
    )
