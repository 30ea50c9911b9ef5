"""Rankings as they hold now, for researchers and admins; people appear under their pseudonyms."""

from datetime import datetime
from typing import Annotated

from django.http import HttpResponse
from ninja import Query, Router, Schema
from pydantic import Field

from annotate.formats.versions.current import RANKED_BY
from annotate.models import Ranking

from .base import ERRORS, ID_MAX, READERS, ApiRequest, Moment, PageQuery, ProblemOut, Scope, Token, membership_of
from .rows import Lasting, RowPage, after, answer_page, fetch_ids, time_json

router = Router(tags=["data"], auth=Token(Scope.READ))


class RankedOut(Schema):
    id: int
    rank: int = Field(description="1 is best, equal is a tie; all 1 where the verdict is all_bad")
    ratings: dict[str, int] = Field(description="1 to 5 by the criterion's name")


class RankingOut(Schema):
    ranking: str = Field(description="Its uid, 32 hex digits, as in dataset versions")
    prompt: int
    task: int
    verdict: Ranking.Verdict
    annotator: str = Field(description="A pseudonym")
    role: Ranking.Role = Field(description="adjudicator: a reviewer's decision")
    completions: list[RankedOut] = Field(description="Best first")
    reasons: list[str]
    comment: str
    seconds: float
    created_at: datetime


class RankingQuery(PageQuery):
    since: Moment | None = Field(None, description="Made then or later; with a time zone")
    until: Moment | None = Field(None, description="Made before; with a time zone")
    role: Ranking.Role | None = None
    prompt: int | None = Field(None, ge=1, le=ID_MAX, description="Those of this prompt")


RANKINGS = """
    SELECT id FROM annotate_ranking
    WHERE project_id = %(project)s AND is_current AND id > %(after)s {only} ORDER BY id LIMIT {limit}
"""
RANKING = Lasting(f"""
    SELECT r.id, row_to_json(told)::text
    FROM annotate_ranking r
    JOIN annotate_rankingtask t ON t.id = r.task_id
    LEFT JOIN annotate_membership m ON m.project_id = r.project_id AND m.user_id = r.annotator_id
    LEFT JOIN annotate_importedranking i ON i.ranking_id = r.id
    CROSS JOIN LATERAL (
        SELECT replace(r.uid::text, '-', '') AS ranking, t.prompt_id AS prompt, r.task_id AS task, r.verdict,
            {RANKED_BY} AS annotator, r.role, (
                SELECT coalesce(json_agg(json_build_object('id', completion_id, 'rank', rank, 'ratings', ratings)
                    ORDER BY rank, completion_id), '[]')
                FROM annotate_rankedcompletion WHERE ranking_id = r.id
            ) AS completions,
            r.reasons, r.comment, r.seconds, {time_json("r.created_at")} AS created_at
    ) told
    WHERE r.id = ANY(%(ids)s)
""")  # noqa: S608 - built of constants
ONLY = {
    "since": "AND created_at >= %(since)s",
    "until": "AND created_at < %(until)s",
    "role": "AND role = %(role)s",
    "prompt": "AND task_id IN (SELECT id FROM annotate_rankingtask WHERE project_id = %(project)s AND prompt_id = %(prompt)s)",
}


@router.get(
    "/projects/{slug}/rankings",
    response={200: RowPage[RankingOut], ERRORS: ProblemOut},
    operation_id="list_rankings",
    summary="Current rankings, oldest first",
    description=(
        "Those that hold: the latest revision of each, without those taken back. A ranking that is revised bears a new id and comes "
        "at the end; the earlier one is not listed any more. Rankings of gold and practice tasks are among them."
    ),
)
def list_rankings(request: ApiRequest, slug: str, query: Annotated[RankingQuery, Query()]) -> HttpResponse:
    project = membership_of(request, slug, *READERS).project_id
    wanted = query.model_dump(include=set(ONLY), exclude_none=True)
    statement = RANKINGS.format(only=" ".join(ONLY[name] for name in wanted), limit=query.limit + 1)
    # How many rows a filter leaves decides the way to them, so that Postgres has to see its value.
    ids = fetch_ids(statement, {"project": project, "after": after(query), **wanted}, planned=not wanted)
    return answer_page(ids, RANKING, query)
