"""Rankings as they hold now, for researchers and admins; people appear under their pseudonyms."""

from datetime import datetime
from typing import Annotated

from django.http import HttpResponse
from ninja import Query, Router, Schema
from pydantic import AwareDatetime, Field

from annotate.models import Ranking

from .base import ERRORS, ID_MAX, READERS, ApiRequest, PageQuery, ProblemOut, Scope, Token, membership_of
from .rows import RowPage, after, answer_page, fetch

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
    since: AwareDatetime | None = Field(None, description="Made then or later; with a time zone")
    until: AwareDatetime | None = Field(None, description="Made before; with a time zone")
    role: Ranking.Role | None = None
    prompt: int | None = Field(None, ge=1, le=ID_MAX, description="Those of this prompt")


RANKINGS = """
    SELECT r.id, json_build_object(
        'ranking', replace(r.uid::text, '-', ''), 'prompt', t.prompt_id, 'task', r.task_id, 'verdict', r.verdict,
        'annotator', CASE WHEN r.role = 'imported' THEN coalesce(nullif(i.annotator, ''), 'imported')
            ELSE coalesce(m.pseudonym, 'left-' || substr(md5(r.project_id || ':' || r.annotator_id), 1, 8)) END,
        'role', r.role, 'completions', ranked.completions, 'reasons', r.reasons, 'comment', r.comment,
        'seconds', r.seconds, 'created_at', r.created_at)::text
    FROM (
        SELECT * FROM annotate_ranking
        WHERE project_id = %(project)s AND is_current AND id > %(after)s {only} ORDER BY id LIMIT {limit}
    ) r
    JOIN annotate_rankingtask t ON t.id = r.task_id
    LEFT JOIN annotate_membership m ON m.project_id = r.project_id AND m.user_id = r.annotator_id
    LEFT JOIN annotate_importedranking i ON i.ranking_id = r.id
    CROSS JOIN LATERAL (
        SELECT coalesce(json_agg(json_build_object('id', completion_id, 'rank', rank, 'ratings', ratings)
            ORDER BY rank, completion_id), '[]') AS completions
        FROM annotate_rankedcompletion WHERE ranking_id = r.id
    ) ranked
    ORDER BY r.id
"""
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
    rows = fetch(statement, {"project": project, "after": after(query), **wanted}, planned=not wanted)
    return answer_page(rows, query)
