"""Prompts and completions, for researchers and admins: who annotates must not learn where an answer comes from."""

from datetime import datetime
from typing import Annotated, Any

from django.http import Http404, HttpResponse
from ninja import Query, Router, Schema
from pydantic import Field

from .base import ERRORS, ID_MAX, READERS, ApiRequest, PageQuery, ProblemOut, Scope, Token, membership_of
from .rows import Lasting, RowPage, after, answer_json, answer_page, fetch, fetch_ids, time_json

router = Router(tags=["data"], auth=Token(Scope.READ))


class MessageOut(Schema):
    role: str = Field(description="system, user or assistant")
    content: str


class PromptOut(Schema):
    id: int
    content_hash: str = Field(description="SHA-256 of the conversation: datasets name it `prompt_id`")
    messages: list[MessageOut]
    tags: list[str]
    reference_answer: str
    metadata: dict[str, Any]
    created_at: datetime


class AnswerOut(Schema):
    id: int
    text: str
    reasoning: str = Field(description="What stood between <think> and </think>")
    source: str = Field(description="The checkpoint, import or person that it comes from")
    sampling: dict[str, Any] = Field(description="temperature, top_p, max_new_tokens, seed, …")
    created_at: datetime


class PromptDetail(PromptOut):
    completions: list[AnswerOut]


class CompletionOut(AnswerOut):
    prompt: int


class PromptQuery(PageQuery):
    tag: str = Field("", max_length=60, description="Those that bear this tag")


class CompletionQuery(PageQuery):
    prompt: int | None = Field(None, ge=1, le=ID_MAX, description="Answers to this prompt")
    source: str = Field("", max_length=200, description="Those of this source")


COLUMNS = f"id, content_hash, messages, tags, reference_answer, metadata, {time_json('created_at')} AS created_at"
PROMPTS = (
    "SELECT id FROM annotate_prompt WHERE project_id = %(project)s AND id > %(after)s {only} ORDER BY id LIMIT {limit}"
)
PROMPT = Lasting(
    f"SELECT id, row_to_json(p)::text FROM (SELECT {COLUMNS} FROM annotate_prompt WHERE id = ANY(%(ids)s)) p"  # noqa: S608
)
# An array's order is not that of its rows, so that the completions say it themselves.
WHOLE_PROMPT = f"""
    SELECT row_to_json(p)::text FROM (
        SELECT {COLUMNS}, (
            SELECT coalesce(json_agg(json_build_object('id', c.id, 'text', c.text, 'reasoning', c.reasoning, 'source', s.name,
                'sampling', c.sampling, 'created_at', {time_json("c.created_at")}) ORDER BY c.id), '[]')
            FROM annotate_completion c JOIN annotate_source s ON s.id = c.source_id WHERE c.prompt_id = prompt.id
        ) AS completions
        FROM annotate_prompt prompt WHERE project_id = %(project)s AND id = %(id)s
    ) p
"""  # noqa: S608 - built of constants
# Each source has its completions in the order of ids; of each the first ones are enough.
COMPLETIONS = """
    SELECT c.id FROM annotate_source s CROSS JOIN LATERAL (
        SELECT id FROM annotate_completion WHERE source_id = s.id AND id > %(after)s ORDER BY id LIMIT {limit}
    ) c
    WHERE s.project_id = %(project)s {only} ORDER BY c.id LIMIT {limit}
"""
COMPLETIONS_TO = """
    SELECT c.id FROM annotate_completion c JOIN annotate_source s ON s.id = c.source_id
    WHERE c.prompt_id = %(prompt)s AND s.project_id = %(project)s AND c.id > %(after)s {only} ORDER BY c.id LIMIT {limit}
"""
COMPLETION = Lasting(f"""
    SELECT id, row_to_json(found)::text FROM (
        SELECT c.id, c.prompt_id AS prompt, c.text, c.reasoning, s.name AS source, c.sampling,
            {time_json("c.created_at")} AS created_at
        FROM annotate_completion c JOIN annotate_source s ON s.id = c.source_id WHERE c.id = ANY(%(ids)s)
    ) found
""")  # noqa: S608 - built of constants


@router.get(
    "/projects/{slug}/prompts",
    response={200: RowPage[PromptOut], ERRORS: ProblemOut},
    operation_id="list_prompts",
    summary="Prompts, oldest first",
)
def list_prompts(request: ApiRequest, slug: str, query: Annotated[PromptQuery, Query()]) -> HttpResponse:
    project = membership_of(request, slug, *READERS).project_id
    only = "AND tags @> ARRAY[%(tag)s::varchar]" if query.tag else ""
    statement = PROMPTS.format(only=only, limit=query.limit + 1)
    ids = fetch_ids(statement, {"project": project, "after": after(query), "tag": query.tag})
    return answer_page(ids, PROMPT, query)


@router.get(
    "/projects/{slug}/prompts/{int:id}",
    response={200: PromptDetail, ERRORS: ProblemOut},
    operation_id="get_prompt",
    summary="A prompt with its completions",
)
def get_prompt(request: ApiRequest, slug: str, id: int) -> HttpResponse:
    project = membership_of(request, slug, *READERS).project_id
    found = fetch(WHOLE_PROMPT, {"project": project, "id": min(id, ID_MAX)})
    if not found:
        raise Http404
    return answer_json(found[0][0])


@router.get(
    "/projects/{slug}/completions",
    response={200: RowPage[CompletionOut], ERRORS: ProblemOut},
    operation_id="list_completions",
    summary="Completions, oldest first",
)
def list_completions(request: ApiRequest, slug: str, query: Annotated[CompletionQuery, Query()]) -> HttpResponse:
    project = membership_of(request, slug, *READERS).project_id
    statement = (COMPLETIONS_TO if query.prompt else COMPLETIONS).format(
        only="AND s.name = %(source)s" if query.source else "", limit=query.limit + 1
    )
    parameters = {"project": project, "after": after(query), "prompt": query.prompt, "source": query.source}
    return answer_page(fetch_ids(statement, parameters), COMPLETION, query)
