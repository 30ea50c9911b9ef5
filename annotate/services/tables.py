"""What a project has of an import's rows, and where new ones go: into its tables, or for a dry run beside them."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db import connection, models

from annotate.models import (
    Completion,
    ImportedRanking,
    KnownOrder,
    Project,
    Prompt,
    RankedCompletion,
    Ranking,
    RankingTask,
    Source,
    TaskCompletion,
)

from .ahead import ahead

COLUMNS: dict[type[models.Model], tuple[str, ...]] = {
    Prompt: ("id", "project_id", "messages", "content_hash", "reference_answer", "metadata", "tags", "created_at"),
    Completion: ("id", "prompt_id", "source_id", "text", "reasoning", "sampling", "content_hash", "created_at"),
    RankingTask: (
        "id", "project_id", "prompt_id", "content_hash", "state", "purpose", "priority", "overlap", "leased", "submitted",
        "created_at",
    ),
    TaskCompletion: ("task_id", "completion_id"),
    KnownOrder: ("task_id", "ranks", "explanation", "created_at"),
    Ranking: (
        "id", "token", "uid", "project_id", "task_id", "annotator_id", "role", "revision", "is_current", "verdict",
        "reasons", "comment", "seconds", "created_at",
    ),
    RankedCompletion: ("ranking_id", "completion_id", "rank", "ratings"),
    ImportedRanking: ("ranking_id", "job_id", "line", "annotator", "original"),
}  # fmt: skip

# Which of these columns may hold anything; what is in the others needs no more than to be written.
ANYTHING: dict[type[models.Model], tuple[str, ...]] = {
    Prompt: ("messages", "reference_answer", "metadata", "tags"),
    Completion: ("text", "reasoning", "sampling"),
    KnownOrder: ("ranks", "explanation"),
    Ranking: ("reasons", "comment"),
    RankedCompletion: ("ratings",),
    ImportedRanking: ("job_id", "annotator", "original"),
}
# The backslash first, since the others bring some.
ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
LINES_AT_ONCE = 1000
PIECES_AHEAD = 4


@dataclass
class NewRows:
    """Rows for the tables, each in the order of COLUMNS; JSON as text."""

    prompts: list[tuple[Any, ...]] = field(default_factory=list)
    completions: list[tuple[Any, ...]] = field(default_factory=list)
    tasks: list[tuple[Any, ...]] = field(default_factory=list)
    pairs: list[tuple[Any, ...]] = field(default_factory=list)
    known: list[tuple[Any, ...]] = field(default_factory=list)
    rankings: list[tuple[Any, ...]] = field(default_factory=list)
    ranked: list[tuple[Any, ...]] = field(default_factory=list)
    origins: list[tuple[Any, ...]] = field(default_factory=list)


class Tables:
    """A project's own tables."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def sources(self, names: Collection[str]) -> dict[str, int]:
        """{name: id}; new ones are made."""
        found = self._sources(names)
        if len(found) < len(names):
            Source.objects.bulk_create(
                (
                    Source(project=self.project, name=name, kind=Source.Kind.IMPORT)
                    for name in sorted(set(names) - set(found))
                ),
                ignore_conflicts=True,
            )
            found = self._sources(names)
        return found

    def _sources(self, names: Collection[str]) -> dict[str, int]:
        return dict(Source.objects.filter(project=self.project, name__in=names).values_list("name", "pk"))

    def prompts(self, hashes: Collection[str]) -> dict[str, int]:
        """{content hash: id}"""
        sql = "SELECT content_hash, id FROM annotate_prompt WHERE project_id = %s AND content_hash = ANY(%s)"
        return dict(_found(sql, self.project.pk, list(hashes)))

    def completions(self, prompts: Collection[int]) -> dict[tuple[int, int, str], int]:
        """{(prompt id, source id, content hash): id} of all that these prompts have."""
        sql = "SELECT prompt_id, source_id, content_hash, id FROM annotate_completion WHERE prompt_id = ANY(%s)"
        return {(prompt, source, digest): pk for prompt, source, digest, pk in _found(sql, list(prompts))}

    def tasks(self, hashes: Collection[str]) -> dict[str, int]:
        """{content hash: id}"""
        sql = "SELECT content_hash, id FROM annotate_rankingtask WHERE project_id = %s AND content_hash = ANY(%s)"
        return dict(_found(sql, self.project.pk, list(hashes)))

    def tokens(self, tokens: Collection[UUID]) -> set[UUID]:
        """Those that rankings have already."""
        return {row[0] for row in _found("SELECT token FROM annotate_ranking WHERE token = ANY(%s)", list(tokens))}

    def uids(self, uids: Collection[UUID]) -> set[UUID]:
        """Those that rankings have already, in whatever project."""
        return {row[0] for row in _found("SELECT uid FROM annotate_ranking WHERE uid = ANY(%s)", list(uids))}

    def next_ids(self, model: type[models.Model], number: int) -> list[int]:
        """Ids taken from the table's own sequence, so that rows may refer to each other before they are written."""
        if not number:
            return []
        with connection.cursor() as cursor:
            # The sequence is looked up once, and one row of many numbers is read faster than many rows.
            cursor.execute(
                """
                WITH sequence AS MATERIALIZED (SELECT pg_get_serial_sequence(%s, 'id')::regclass AS name)
                SELECT array_agg(nextval(sequence.name)) FROM sequence, generate_series(1, %s)
                """,
                [model._meta.db_table, number],
            )
            ids: list[int] = cursor.fetchone()[0]
            return ids

    def write(self, new: NewRows) -> None:
        rows: dict[type[models.Model], Sequence[Sequence[Any]]] = {
            Prompt: new.prompts,
            Completion: new.completions,
            RankingTask: new.tasks,
            TaskCompletion: new.pairs,
            KnownOrder: new.known,
            Ranking: new.rankings,
            RankedCompletion: new.ranked,
            ImportedRanking: new.origins,
        }
        _copy(
            _Copied(model._meta.db_table, COLUMNS[model], of_table, ANYTHING.get(model, ()))
            for model, of_table in rows.items()
        )


def _found(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Thousands of values go as one array: the ORM looks at each, which took a fifth of an import's own time."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


class Shadow(Tables):
    """The project's tables with what a dry run would have added, which only this connection sees.

    New rows have negative ids. Of each row no more is kept than tells whether it is there, in temporary tables, which
    Postgres moves to the disk where they outgrow its buffers. Close it at the end.
    """

    TABLES = {
        "dry_prompt": "content_hash text PRIMARY KEY, id bigint",
        "dry_completion": "prompt_id bigint, source_id bigint, content_hash text, id bigint",
        "dry_task": "content_hash text PRIMARY KEY, id bigint",
        "dry_ranking": "token uuid PRIMARY KEY",
    }

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.ids = count(-1, -1)
        self.new_sources: dict[str, int] = {}
        self.close()
        with connection.cursor() as cursor:
            for name, columns in self.TABLES.items():
                cursor.execute(f"CREATE TEMPORARY TABLE {name} ({columns})")
            cursor.execute("CREATE INDEX ON dry_completion (prompt_id)")

    def close(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {', '.join(f'pg_temp.{name}' for name in self.TABLES)}")

    def sources(self, names: Collection[str]) -> dict[str, int]:
        found = self._sources(names)
        for name in sorted(set(names) - set(found)):
            found[name] = self.new_sources.setdefault(name, -1 - len(self.new_sources))
        return found

    def prompts(self, hashes: Collection[str]) -> dict[str, int]:
        return super().prompts(hashes) | dict(self._ours("content_hash, id", "dry_prompt", "content_hash", hashes))

    def completions(self, prompts: Collection[int]) -> dict[tuple[int, int, str], int]:
        ours = self._ours("prompt_id, source_id, content_hash, id", "dry_completion", "prompt_id", prompts)
        return super().completions(prompts) | {(prompt, source, digest): pk for prompt, source, digest, pk in ours}

    def tasks(self, hashes: Collection[str]) -> dict[str, int]:
        return super().tasks(hashes) | dict(self._ours("content_hash, id", "dry_task", "content_hash", hashes))

    def tokens(self, tokens: Collection[UUID]) -> set[UUID]:
        return super().tokens(tokens) | {row[0] for row in self._ours("token", "dry_ranking", "token", tokens)}

    def uids(self, uids: Collection[UUID]) -> set[UUID]:
        return set()

    def _ours(self, columns: str, table: str, key: str, values: Collection[Any]) -> list[tuple[Any, ...]]:
        return _found(f"SELECT {columns} FROM {table} WHERE {key} = ANY(%s)", list(values))  # noqa: S608

    def next_ids(self, model: type[models.Model], number: int) -> list[int]:
        return [next(self.ids) for _number in range(number)]

    def write(self, new: NewRows) -> None:
        _copy(
            [
                _Copied("dry_prompt", ("id", "content_hash"), [(row[0], row[3]) for row in new.prompts]),
                _Copied(
                    "dry_completion",
                    ("id", "prompt_id", "source_id", "content_hash"),
                    [(*row[:3], row[6]) for row in new.completions],
                ),
                _Copied("dry_task", ("id", "content_hash"), [(row[0], row[3]) for row in new.tasks]),
                _Copied("dry_ranking", ("token",), [(row[1],) for row in new.rankings]),
            ]
        )


@dataclass(frozen=True)
class _Copied:
    """Rows for one table, and which of the columns may hold anything."""

    table: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    anything: Sequence[str] = ()

    @property
    def command(self) -> str:
        return f"COPY {self.table} ({', '.join(self.columns)}) FROM STDIN"

    def pieces(self) -> Iterator[tuple[str, bytes]]:
        """The command with so much text at a time as a wait for Postgres is worth."""
        places = [self.columns.index(name) for name in self.anything]
        for start in range(0, len(self.rows), LINES_AT_ONCE):
            yield (
                self.command,
                "".join([_line(row, places) for row in self.rows[start : start + LINES_AT_ONCE]]).encode(),
            )


def copy_rows(model: type[models.Model], rows: Sequence[Sequence[Any]]) -> None:
    """COPY rows into the model's table, each in the order of COLUMNS. JSON comes as text."""
    _copy([_Copied(model._meta.db_table, COLUMNS[model], rows, ANYTHING.get(model, ()))])


def _copy(copied: Iterable[_Copied]) -> None:
    """The text is made in a thread while Postgres takes what was made before."""
    with closing(ahead(lambda: (piece for one in copied for piece in one.pieces()), PIECES_AHEAD)) as made:
        for command, pieces in groupby(made, key=itemgetter(0)):
            # Django wraps the errors of execute() as its own, but not those of copy().
            with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(command) as copy:
                for _command, piece in pieces:
                    copy.write(piece)


def _line(row: Sequence[Any], anything: Sequence[int]) -> str:
    """A row in COPY's text format; psycopg's own way costs several times as much."""
    cells = [*map(str, row)]
    for place in anything:
        cells[place] = _cell(row[place])
    return "\t".join(cells) + "\n"


def _cell(value: str | list[str] | int | None) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, list):
        return _escaped(f"{{{','.join(map(_element, value))}}}")
    return _escaped(str(value))


def _escaped(text: str) -> str:
    for sign, escape in ESCAPES:
        if sign in text:
            text = text.replace(sign, escape)
    return text


def _element(text: str) -> str:
    """A text as an element of an array."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
