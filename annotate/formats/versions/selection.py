"""Which rankings and ideal answers a dataset version takes: a pipeline of steps that counts what each one drops.

The steps that look at rows are one statement; those that look at texts (annotate.formats.versions.screening) and at what is left of a
prompt or task follow. All of it happens in temporary tables of the worker's connection: `podium_found` has a row for each ranking
that was current at the version's time, `podium_prompt` one for each prompt that has something left, `podium_kept` the rows of the
version in their order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connection

from annotate.models import DatasetVersion

from . import agreeing, screening, splitting
from .current import CURRENT, PSEUDONYM, RANKED_BY, WRITTEN_BY_THEN

if TYPE_CHECKING:
    from annotate.services.datasets import Filters

OF_RANKING = "FROM annotate_rankedcompletion rc WHERE rc.ranking_id = r.id"
COMPLETIONS = (
    "FROM annotate_rankedcompletion rc JOIN annotate_completion c ON c.id = rc.completion_id WHERE rc.ranking_id = r.id"
)
RATED = """NOT EXISTS (
    SELECT FROM annotate_rankedcompletion rc, jsonb_each(rc.ratings) one WHERE rc.ranking_id = r.id
        AND (%(criterion)s = '' OR one.key = %(criterion)s)
        AND CASE WHEN jsonb_typeof(one.value) = 'number' THEN one.value::numeric >= {least} END
)"""


class Step(NamedTuple):
    """Drops the rankings for which `condition` holds, where the filters ask for it."""

    name: str
    condition: str
    is_asked: Callable[["Filters"], bool]


# A decision is no further opinion: it takes the place of a task's rankings, or is left out; it never counts as a ranking of its
# prompt, and how fast a reviewer was says nothing.
STEPS = (
    Step("known_tasks", "t.purpose <> 'ranking'", lambda filters: not filters.known_tasks),
    Step("decisions", "r.role = 'adjudicator'", lambda filters: filters.decisions == "raw"),
    Step("roles", "NOT r.role = ANY(%(roles)s)", lambda filters: bool(filters.roles)),
    Step("since", "r.created_at < %(since)s", lambda filters: bool(filters.since)),
    Step("until", "r.created_at >= %(until)s", lambda filters: bool(filters.until)),
    Step(
        "exclude_annotators",
        f"{RANKED_BY} = ANY(%(exclude_annotators)s)",
        lambda filters: bool(filters.exclude_annotators),
    ),
    Step(
        "min_seconds",
        "r.role = 'annotator' AND r.seconds < %(min_seconds)s",
        lambda filters: filters.min_seconds > 0,
    ),
    Step(
        "min_agreement",
        """coalesce((SELECT a.agreement FROM podium_agreement a WHERE a.task_id = r.task_id), '-infinity')
            < %(min_agreement)s""",
        lambda filters: filters.min_agreement is not None,
    ),
    # Exact numbers, so that the mean does not depend on the order in which rows are read.
    Step(
        "min_gold_accuracy",
        """r.role = 'annotator' AND coalesce((
            SELECT g.accuracy FROM gold g WHERE g.annotator_id = r.annotator_id
        ), -1) < %(min_gold_accuracy)s::float8::numeric""",
        lambda filters: filters.min_gold_accuracy > 0,
    ),
    Step("exclude_all_bad", "r.verdict = 'all_bad'", lambda filters: filters.exclude_all_bad),
    Step("tags", "NOT p.tags::text[] && %(tags)s::text[]", lambda filters: bool(filters.tags)),
    Step("criterion", RATED.format(least="0"), lambda filters: bool(filters.criterion)),
    Step("min_rating", RATED.format(least="%(min_rating)s"), lambda filters: filters.min_rating > 0),
    Step(
        "sources",
        f"""NOT EXISTS (
            SELECT FROM annotate_source s WHERE s.name = ANY(%(sources)s) AND s.id IN (SELECT c.source_id {COMPLETIONS})
        )""",
        lambda filters: bool(filters.sources),
    ),
    Step(
        "min_length",
        f"EXISTS (SELECT {COMPLETIONS} AND char_length(c.text) < %(min_length)s)",
        lambda filters: filters.min_length > 0,
    ),
    Step(
        "max_length",
        f"EXISTS (SELECT {COMPLETIONS} AND char_length(c.text) > %(max_length)s)",
        lambda filters: filters.max_length > 0,
    ),
)
FOUND = f"""
    CREATE TEMPORARY TABLE podium_found AS
    WITH gold AS (
        SELECT r.annotator_id, avg(round(r.accuracy::numeric, 9)) AS accuracy
        FROM annotate_ranking r JOIN annotate_rankingtask t ON t.id = r.task_id
        WHERE {CURRENT} AND r.accuracy IS NOT NULL AND t.purpose = 'gold' GROUP BY 1
    )
    SELECT r.id AS ranking_id, r.uid, r.task_id, t.prompt_id, r.role, r.verdict, {RANKED_BY} AS annotator,
        {{dropped_by}} AS dropped_by
    FROM annotate_ranking r
    JOIN annotate_rankingtask t ON t.id = r.task_id
    JOIN annotate_prompt p ON p.id = t.prompt_id
    LEFT JOIN annotate_membership m ON m.project_id = r.project_id AND m.user_id = r.annotator_id
    LEFT JOIN annotate_importedranking i ON i.ranking_id = r.id
    WHERE {CURRENT}
"""  # noqa: S608 - built of constants
# Ideal answers within the filters that apply to them.
WRITTEN = """
    FROM annotate_demonstration d
    JOIN annotate_completion c ON c.id = d.completion_id
    JOIN annotate_prompt p ON p.id = c.prompt_id
    LEFT JOIN annotate_membership m ON m.project_id = d.project_id AND m.user_id = d.author_id
"""
WHICH_WRITTEN = f"""
    d.project_id = %(project)s AND {WRITTEN_BY_THEN}
        AND d.created_at >= %(since)s AND d.created_at < %(until)s
        AND NOT {PSEUDONYM.format(project="d.project_id", person="d.author_id")} = ANY(%(exclude_annotators)s)
        AND (cardinality(%(tags)s::text[]) = 0 OR p.tags::text[] && %(tags)s::text[])
"""
PROMPTS = f"""
    CREATE TEMPORARY TABLE podium_prompt AS
    SELECT p.id AS prompt_id, p.content_hash, bool_or(has_ideal) AS has_ideal, NULL::text AS dropped_by,
        NULL::boolean AS was_test, NULL::boolean AS is_test, ''::text AS stratum, NULL::bigint AS nr
    FROM (
        SELECT prompt_id, false AS has_ideal FROM podium_found WHERE dropped_by IS NULL
        UNION SELECT p.id, true {WRITTEN} WHERE {WHICH_WRITTEN}
    ) left_over JOIN annotate_prompt p ON p.id = left_over.prompt_id
    GROUP BY p.id
"""  # noqa: S608 - built of constants
TOO_FEW = """
    UPDATE podium_found SET dropped_by = 'min_rankings' WHERE dropped_by IS NULL AND prompt_id IN (
        SELECT prompt_id FROM podium_found WHERE dropped_by IS NULL
        GROUP BY prompt_id HAVING count(*) FILTER (WHERE role <> 'adjudicator') < %(min_rankings)s
    )
"""
SETTLED = """
    UPDATE podium_found SET dropped_by = 'decisions' WHERE dropped_by IS NULL AND role <> 'adjudicator' AND task_id IN (
        SELECT task_id FROM podium_found WHERE dropped_by IS NULL AND role = 'adjudicator'
    )
"""
WITH_PROMPT = """
    UPDATE podium_found f SET dropped_by = p.dropped_by FROM podium_prompt p
    WHERE p.prompt_id = f.prompt_id AND f.dropped_by IS NULL AND p.dropped_by IS NOT NULL
"""
KEPT = """
    CREATE TEMPORARY TABLE podium_kept AS
    SELECT row_number() OVER (ORDER BY uid) AS seq, one.*, p.content_hash, p.is_test FROM ({rows}) one
    JOIN podium_prompt p USING (prompt_id)
"""
ALL = "SELECT ranking_id, uid, task_id, prompt_id, role, annotator FROM podium_found WHERE dropped_by IS NULL"
# What is made of several rankings has the texts of one of them, and a uid that follows from theirs: a UUID of version 8
# (RFC 9562), of their SHA-256.
MERGED = """
    SELECT ranking_id, uid, task_id, prompt_id, role, annotator FROM podium_found
    WHERE dropped_by IS NULL AND role = 'adjudicator'
    UNION ALL
    SELECT min(ranking_id), overlay(overlay(
        substr(encode(sha256(string_agg(uuid_send(uid), ''::bytea ORDER BY uid)), 'hex'), 1, 32) placing '8' from 13
    ) placing '8' from 17)::uuid, task_id, min(prompt_id), 'consensus', 'consensus'
    FROM podium_found WHERE dropped_by IS NULL AND role <> 'adjudicator' GROUP BY task_id
"""
TABLES = ("podium_found", "podium_agreement", "podium_prompt", "podium_before", "podium_kept")


@dataclass
class Selection:
    """What was kept. `steps`: {"step", "dropped", "left"} in order, without those that nobody asked for."""

    values: dict[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    left: int = 0
    languages: dict[str, int] | None = None
    contaminated: int | None = None

    def count(self, name: str, dropped: int) -> None:
        """A step of the same name twice counts as one for `dropped`."""
        self.left -= dropped
        self.steps.append({"step": name, "dropped": dropped, "left": self.left})
        if dropped:
            self.dropped[name] = self.dropped.get(name, 0) + dropped

    def json(self) -> dict[str, Any]:
        """Its part of the version's counts."""
        found = {} if self.contaminated is None else {"contaminated_prompts": self.contaminated}
        return {"steps": self.steps, "dropped": self.dropped, **found}


def select(version: DatasetVersion, filters: "Filters", beat: Callable[[], None]) -> Selection:
    """Fill `podium_kept` and `podium_prompt`, which knows each prompt's side; `beat` is called between statements."""
    selection = Selection(
        {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in vars(filters).items()},
            "project": version.project_id,
            "as_of": version.as_of,
            "since": filters.since or "-infinity",
            "until": filters.until or "infinity",
            "test_fraction": version.test_fraction,
        }
    )
    drop_tables()
    if filters.min_agreement is not None:
        agreeing.measure(selection.values, beat)
    asked = [step for step in STEPS if step.is_asked(filters)]
    cases = " ".join(f"WHEN {step.condition} THEN '{step.name}'" for step in asked)
    dropped_by = f"CASE {cases} END" if asked else "NULL::text"
    _run(FOUND.format(dropped_by=dropped_by), selection, beat)
    found = dict(_rows("SELECT coalesce(dropped_by, ''), count(*) FROM podium_found GROUP BY 1"))
    selection.left = sum(found.values())
    for step in asked:
        selection.count(step.name, found.get(step.name, 0))
    _run(PROMPTS, selection, beat)
    _run("ANALYZE podium_prompt", selection, beat)
    splitting.remember(version, beat)
    if filters.languages:
        selection.languages = screening.tell_languages(filters.languages, beat)
        selection.count("languages", _drop_with_prompts(selection, beat))
    if filters.drop_duplicates:
        screening.drop_duplicates(beat)
        selection.count("drop_duplicates", _drop_with_prompts(selection, beat))
    if filters.min_rankings > 1:
        selection.count("min_rankings", _run(TOO_FEW, selection, beat))
    if filters.decisions != "raw":
        dropped = _run(SETTLED, selection, beat)
        if filters.decisions == "consensus":
            dropped += _rows("SELECT count(*) - count(DISTINCT task_id) FROM podium_found WHERE dropped_by IS NULL")[0][
                0
            ]
        selection.count("decisions", dropped)
    splitting.assign(version)
    if filters.held_out:
        selection.contaminated = screening.drop_contaminated(version, filters.held_out, beat)
        before = selection.left
        _drop_with_prompts(selection, beat)
        selection.count("held_out", before - _left(filters))
    _run(KEPT.format(rows=MERGED if filters.decisions == "consensus" else ALL), selection, beat)
    _run("CREATE UNIQUE INDEX ON podium_kept (seq)", selection, beat)
    if filters.decisions == "consensus":
        _run("CREATE INDEX ON podium_found (task_id)", selection, beat)
    _run("ANALYZE podium_kept", selection, beat)
    return selection


def _left(filters: "Filters") -> int:
    what = "DISTINCT task_id" if filters.decisions == "consensus" else "*"
    return int(_rows(f"SELECT count({what}) FROM podium_found WHERE dropped_by IS NULL")[0][0])  # noqa: S608 - a constant


def _drop_with_prompts(selection: Selection, beat: Callable[[], None]) -> int:
    """How many rankings go with the prompts that were dropped."""
    # Without a fresh look at how many those are the planner would go through all rankings for each of them.
    _run("ANALYZE podium_prompt, podium_found", selection, beat)
    return _run(WITH_PROMPT, selection, beat)


def read_by_index(is_on: bool) -> None:
    """For many statements that read some thousand rows each: the planner, who knows of one at a time, would rather read whole
    tables for every one of them."""
    with connection.cursor() as cursor:
        if is_on:
            cursor.execute("SET enable_hashjoin = off; SET enable_mergejoin = off")
        else:
            cursor.execute("RESET enable_hashjoin; RESET enable_mergejoin")


def drop_tables() -> None:
    """Leave the connection as it was."""
    read_by_index(False)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")


def _run(sql: str, selection: Selection, beat: Callable[[], None]) -> int:
    """How many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, selection.values)
        touched: int = cursor.rowcount
    beat()
    return touched


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
