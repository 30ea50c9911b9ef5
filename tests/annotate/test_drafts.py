import json
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Assignment, Demonstration
from tests.annotate.ranking_page import check_counts, held, lapse, opened, url
from tests.conftest import make_task, signed_in

pytestmark = pytest.mark.django_db


def test_a_draft_is_kept_and_renews_the_lease(project, bob):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    Assignment.objects.update(lease_until=timezone.now() + timedelta(seconds=5))
    draft = {"places": [["C"], []], "comment": "so far, with the letters \\u0000 as typed"}
    body = json.dumps({"token": str(assignment.token), "draft": draft})
    response = signed_in(bob).post(url(project, "draft", assignment), body, content_type="application/json")
    assert response.status_code == 204
    assert held(bob).lease_until > timezone.now() + timedelta(minutes=project.lease_minutes - 1)
    assert opened(bob, project).context["task"]["draft"] == draft


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 422),
        ("[]", 422),
        ('{"draft": {}}', 422),
        ('{"token": "x", "draft": {}}', 422),
        ('{"token": "TOKEN", "draft": []}', 422),
        ('{"token": "TOKEN", "draft": {"places": "A"}}', 422),
        ('{"token": "TOKEN", "draft": {"comment": "a\\u0000b"}}', 422),
        (r'{"token": "TOKEN", "draft": {"comment": "\ud800"}}', 422),
        ('{"token": "TOKEN", "draft": {"seconds": NaN}}', 422),
        ('{"token": "TOKEN", "draft": {"seconds": 1e999}}', 422),
        ('{"token": "TOKEN", "draft": {"deep": ' + "[" * 20_000 + "]" * 20_000 + "}}", 422),
        ('{"token": "TOKEN", "draft": {"comment": "\udcff"}}', 422),
        ('{"token": "TOKEN", "draft": {"comment": "' + "x" * 70_000 + '"}}', 422),
        (f'{{"token": "{uuid.UUID(int=7)}", "draft": {{}}}}', 409),
    ],
)
def test_it_refuses_what_is_no_draft(project, bob, body, status):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    body = body.replace("TOKEN", str(assignment.token)).encode(errors="surrogateescape")
    response = signed_in(bob).post(url(project, "draft", assignment), body, content_type="application/json")
    assert response.status_code == status
    assert response.json()["message"]
    assert held(bob).draft is None


def test_a_late_draft_takes_the_lease_again_while_there_is_room(project, bob):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    lapse(assignment)
    body = json.dumps({"token": str(assignment.token), "draft": {"places": [["D"]]}})
    response = signed_in(bob).post(url(project, "draft", assignment), body, content_type="application/json")
    assert response.status_code == 204
    assert held(bob) == assignment
    check_counts()


def test_an_ideal_answer_is_stored_once(project, bob):
    task = make_task(project)
    opened(bob, project)
    assignment = held(bob)
    for _ in range(2):
        response = signed_in(bob).post(
            url(project, "demonstration", assignment),
            {"text": "<think>short waves</think>Because of scattering.", "edited_from": "B"},
        )
        assert response.status_code == 204
    demonstration = Demonstration.objects.get()
    assert demonstration.edited_from_id == assignment.shown_order[1]
    assert demonstration.author == bob
    completion = demonstration.completion
    assert (completion.text, completion.reasoning, completion.prompt_id) == (
        "Because of scattering.",
        "short waves",
        task.prompt_id,
    )
    assert (completion.source.name, completion.source.kind) == ("people", "person")
    empty = signed_in(bob).post(url(project, "demonstration", assignment), {"text": "<think>hm</think>"})
    assert empty.status_code == 422
    assert held(bob) == assignment
