"""Projects, prompts, completions and rankings by the API."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from annotate.api.projects import ProjectDetail
from annotate.api.prompts import CompletionOut, PromptDetail, PromptOut
from annotate.api.rankings import RankingOut
from annotate.api.rows import RowPage
from annotate.models import ImportedRanking, Membership, Project, Ranking, User, imported_user
from annotate.services.projects import remove_member
from tests.annotate.test_tokens import get, make_token
from tests.conftest import make_task
from tests.training.conftest import rank_tasks
from tests.training.test_api import post


@pytest.fixture
def data(project) -> str:
    return f"/api/v1/projects/{project.slug}"


@pytest.fixture
def token(rita, project) -> str:
    return make_token(rita)


def items(path: str, token: str) -> list[dict[str, Any]]:
    answer = get(path, token)
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def follow(path: str, token: str) -> list[dict[str, Any]]:
    """All pages of two."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = get(f"{path}{'&' if '?' in path else '?'}limit=2&cursor={cursor}", token).json()
        assert len(page["items"]) <= 2
        found, cursor = found + page["items"], page["next"]
    return found


def test_prompts_and_completions_are_read_whole(project, data, token):
    task = make_task(project, "Why “blue”?", ["one", "two <b>\n", "three"])
    prompt = task.prompt
    prompt.tags, prompt.metadata = ["sky", "a,b"], {"n": [1, None, "ü"]}
    prompt.save()
    other = make_task(project, "And green?", ["only"])

    answer = get(f"{data}/prompts", token)
    page = RowPage[PromptOut].model_validate_json(answer.content)
    assert answer["Cache-Control"] == "no-store"
    assert [one.id for one in page.items] == [prompt.pk, other.prompt_id]
    first = page.items[0]
    assert (first.content_hash, first.tags, first.metadata) == (prompt.content_hash, prompt.tags, prompt.metadata)
    assert (first.messages[0].content, first.created_at) == ("Why “blue”?", prompt.created_at)
    assert [one["id"] for one in items(f"{data}/prompts?tag=a%2Cb", token)] == [prompt.pk]

    whole = PromptDetail.model_validate_json(get(f"{data}/prompts/{prompt.pk}", token).content)
    assert [one.text for one in whole.completions] == ["one", "two <b>\n", "three"]
    assert {one.source for one in whole.completions} == {"imported"}
    assert get(f"{data}/prompts/{2**63}", token).status_code == 404

    answers = RowPage[CompletionOut].model_validate_json(get(f"{data}/completions", token).content)
    assert [(one.prompt, one.text) for one in answers.items][-1] == (other.prompt_id, "only")
    assert len(items(f"{data}/completions?prompt={prompt.pk}&source=imported", token)) == 3
    assert items(f"{data}/completions?source=nobody", token) == []
    assert [one["text"] for one in follow(f"{data}/completions", token)] == ["one", "two <b>\n", "three", "only"]


def test_rankings_are_those_that_hold_under_pseudonyms(project, bob, data, token):
    rank_tasks(project, bob, 3)
    membership = Membership.objects.get(user=bob)
    page = RowPage[RankingOut].model_validate_json(get(f"{data}/rankings", token).content)
    first = Ranking.objects.order_by("pk")[0]
    told = page.items[0]
    assert (told.ranking, told.task, told.prompt) == (first.uid.hex, first.task_id, first.task.prompt_id)
    assert {one.annotator for one in page.items} == {membership.pseudonym}
    assert {one.id: one.rank for one in told.completions} == dict(
        first.ranked_completions.values_list("completion_id", "rank")
    )
    assert [one.rank for one in told.completions] == [1, 2, 3, 4]
    assert bob.username not in get(f"{data}/rankings", token).content.decode()

    remove_member(membership=Membership.objects.get(role="admin"), member=membership)
    assert items(f"{data}/rankings", token)[0]["annotator"] == membership.pseudonym
    first.is_current, first.withdrawn_at = False, timezone.now()
    first.save()
    assert [one["ranking"] for one in follow(f"{data}/rankings", token)] == [
        one.uid.hex for one in Ranking.objects.current().order_by("pk")
    ]


def test_rankings_are_filtered_and_go_on_where_one_stopped(project, bob, data, token):
    rank_tasks(project, bob, 3)
    early, middle, late = Ranking.objects.order_by("pk")
    for row, days in ((early, 9), (middle, 5), (late, 1)):
        Ranking.objects.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(days=days))
    Ranking.objects.filter(pk=late.pk).update(role="imported", assignment=None, annotator=imported_user())
    ImportedRanking.objects.create(ranking=late, annotator="imported-0badcafe")

    def found(query: str) -> list[str]:
        return [one["ranking"] for one in items(f"{data}/rankings?{query}", token)]

    since = (timezone.now() - timedelta(days=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found(f"since={since}") == [middle.uid.hex, late.uid.hex]
    assert found(f"until={since}") == [early.uid.hex]
    assert found(f"prompt={middle.task.prompt_id}") == [middle.uid.hex]
    assert found("role=imported") == [late.uid.hex]
    assert items(f"{data}/rankings?role=imported", token)[0]["annotator"] == "imported-0badcafe"
    for wrong in ("since=2026-01-01T00:00:00", "until=yesterday", "role=boss", "prompt=0", "prompt=x"):
        answer = get(f"{data}/rankings?{wrong}", token)
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [wrong.partition("=")[0]])

    last = get(f"{data}/rankings", token).json()["last"]
    nothing = get(f"{data}/rankings?cursor={last}", token).json()
    assert nothing == {"items": [], "next": None, "last": last}
    earlier = get(f"{data}/rankings?limit=2", token).json()
    assert found(f"cursor={earlier['last']}") == found(f"cursor={earlier['next']}") == [late.uid.hex]


@pytest.mark.parametrize("what", ["prompts", "prompts/1", "completions", "rankings", "evaluations", "evaluations/1"])
def test_who_annotates_sees_neither_sources_nor_rankings_of_others(project, bob, charlie, data, what):
    assert get(f"{data}/{what}", make_token(bob)).status_code == 403
    assert get(f"{data}/{what}", make_token(charlie)).status_code == 404


def test_another_projects_rows_are_not_there(project, alice, bob, data, token):
    other = Project.objects.create(slug="other", name="Other", created_by=alice)
    Membership.objects.create(project=other, user=bob, role="admin")
    rank_tasks(other, bob, 1)
    prompt = other.prompts.get()
    for path in (
        "prompts",
        "completions",
        "rankings",
        f"completions?prompt={prompt.pk}",
        f"rankings?prompt={prompt.pk}",
    ):
        assert items(f"{data}/{path}", token) == []
    assert get(f"{data}/prompts/{prompt.pk}", token).status_code == 404


def test_staff_make_projects(alice, db):
    body = {"slug": "waves", "name": "Waves", "overlap": 3}
    token = make_token(alice, "read", "write")
    assert post("/api/v1/projects", token, body).status_code == 403
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    answer = post("/api/v1/projects", token, body, key="k")
    assert answer.status_code == 201, answer.content
    made = ProjectDetail.model_validate_json(answer.content)
    assert (made.slug, made.overlap, made.completions_per_task, made.role) == ("waves", 3, 4, "admin")
    assert post("/api/v1/projects", token, body, key="k").json() == answer.json()
    assert post("/api/v1/projects", make_token(alice), body).status_code == 403
    bound = make_token(alice, "write", project=Project.objects.get())
    assert post("/api/v1/projects", bound, {**body, "slug": "more"}).status_code == 403
    for field, value in (("slug", "waves"), ("slug", "new"), ("slug", "Ä"), ("name", ""), ("overlap", 0)):
        answer = post("/api/v1/projects", token, {**body, "slug": "more", field: value})
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [field]), answer.content
    assert Project.objects.count() == 1
