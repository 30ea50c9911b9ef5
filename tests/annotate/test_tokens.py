"""Tokens for scripts: made and revoked on a page, checked by the API."""

import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import tasks
from annotate.models import ApiToken, AuditEvent, Membership, Project, StoredResponse, User
from annotate.services import moments
from annotate.services.tokens import create_token
from tests.conftest import signed_in

ME = "/api/v1/me"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def make_token(user, *scopes: str, project: Project | None = None) -> str:
    _row, token = create_token(user=user, name="notebook", scopes=scopes or ("read",), days=1, project=project)
    return token


def get(path: str, token: str = ""):
    return Client().get(path, headers=bearer(token) if token else {})


def test_a_token_is_shown_once_and_opens_the_api_until_it_is_revoked(alice, project):
    browser = signed_in(alice)
    assert "You have no tokens." in browser.get(reverse("tokens")).content.decode()
    answer = browser.post(
        reverse("tokens"), {"name": "notebook", "scopes": ["read", "train"], "days": 7, "project": ""}
    )
    token, row = answer.context["token"], ApiToken.objects.get()
    assert token in answer.content.decode()
    assert token not in browser.get(reverse("tokens")).content.decode()
    assert token not in (row.token_hash, row.hint)
    assert len(row.token_hash) == 64

    said = get(ME, token)
    assert said.status_code == 200
    assert said.json() == {
        "username": alice.username,
        "token": "notebook",
        "scopes": ["read", "train"],
        "expires_at": said.json()["expires_at"],
    }
    row.refresh_from_db()
    assert row.last_used_at

    browser.post(reverse("token_revoke", args=[row.pk]))
    browser.post(reverse("token_revoke", args=[row.pk]))
    assert get(ME, token).status_code == 401
    assert list(AuditEvent.objects.filter(target=f"token:{row.pk}").order_by("pk").values_list("verb", flat=True)) == [
        "token.created",
        "token.revoked",
    ]


def test_a_double_click_makes_one_token_and_shows_it(alice, bob, project):
    browser = signed_in(alice)
    form = browser.get(reverse("tokens")).context["form"]
    fields = {"name": "n", "scopes": ["read"], "days": 7, "project": "", "once": form["once"].value()}
    first, second = (browser.post(reverse("tokens"), fields).context["token"] for _ in range(2))
    assert first == second
    assert get(ME, first).status_code == 200
    assert ApiToken.objects.count() == AuditEvent.objects.filter(verb="token.created").count() == 1
    again = browser.post(reverse("tokens"), fields | {"once": ""}).context
    assert again["form"]["once"].value() != fields["once"]
    others = signed_in(bob).post(reverse("tokens"), fields).context["token"]
    assert len({first, again["token"], others}) == 3


def test_nobody_revokes_the_token_of_somebody_else(alice, bob, project):
    make_token(alice)
    assert signed_in(bob).post(reverse("token_revoke", args=[ApiToken.objects.get().pk])).status_code == 404
    assert ApiToken.objects.get().revoked_at is None


@pytest.mark.parametrize(
    ("field", "value"), [("name", ""), ("scopes", []), ("scopes", ["everything"]), ("days", 0), ("days", 9999)]
)
def test_a_wrong_field_is_named_and_makes_no_token(alice, project, field, value):
    fields = {"name": "notebook", "scopes": ["read"], "days": 7, "project": ""} | {field: value}
    answer = signed_in(alice).post(reverse("tokens"), fields)
    assert answer.status_code == 422
    assert answer.context["form"].errors.keys() == {field}
    assert not ApiToken.objects.exists()


def test_a_token_is_not_made_for_a_project_of_others(alice, project):
    other = Project.objects.create(slug="other", name="Other", created_by=alice)
    fields = {"name": "n", "scopes": ["read"], "days": 7, "project": other.pk}
    assert signed_in(alice).post(reverse("tokens"), fields).status_code == 422


def test_without_a_valid_token_the_answer_is_a_problem(alice, project):
    expired = make_token(alice)
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for token in ("", "podium_nonsense", expired, "\u00e4"):
        answer = get(ME, token)
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["WWW-Authenticate"] == "Bearer"
        assert answer.json()["title"] == "No valid token"
    assert signed_in(alice).get(ME).status_code == 401, "a session is no token"


@pytest.mark.parametrize("change", ["revoked", "deactivated", "expired"])
def test_a_token_that_ceased_to_work_reads_no_longer_than_a_moment_and_writes_nothing(alice, project, change):
    token = make_token(alice, "read", "write")
    assert get(ME, token).status_code == 200
    # As another process does it, of which this one hears nothing.
    if change == "deactivated":
        User.objects.filter(pk=alice.pk).update(is_active=False)
    else:
        field = "revoked_at" if change == "revoked" else "expires_at"
        ApiToken.objects.update(**{field: timezone.now() - timedelta(hours=1)})
    refused = Client().post("/api/v1/projects", {}, content_type="application/json", headers=bearer(token))
    assert refused.status_code == 401
    assert get(ME, token).status_code == 401, "whoever was refused once is refused from then on"

    token = make_token(User.objects.create(username="dora"))
    assert get(ME, token).status_code == 200
    ApiToken.objects.update(revoked_at=timezone.now())
    began = time.monotonic()
    while get(ME, token).status_code == 200:
        assert time.monotonic() - began < moments.SECONDS + 0.5
        time.sleep(0.05)


def test_a_removed_member_reads_no_longer_than_a_moment(rita, project):
    token, address = make_token(rita), f"/api/v1/projects/{project.slug}"
    assert get(address, token).status_code == 200
    Membership.objects.filter(user=rita).update(left_at=timezone.now())
    began = time.monotonic()
    while get(address, token).status_code == 200:
        assert time.monotonic() - began < moments.SECONDS + 0.5
        time.sleep(0.05)
    assert get(address, token).status_code == 404


def test_a_token_sees_the_projects_of_its_owner_or_the_one_that_it_is_for(alice, bob, project):
    second = Project.objects.create(slug="second", name="Second", created_by=alice)
    Membership.objects.create(project=second, user=alice, role="admin")
    Project.objects.create(slug="hidden", name="Hidden", created_by=bob)
    everything, one = make_token(alice), make_token(alice, project=second)

    def slugs(token):
        return [item["slug"] for item in get("/api/v1/projects", token).json()["items"]]

    assert slugs(everything) == ["second", project.slug]
    assert slugs(one) == ["second"]
    assert get("/api/v1/projects/second", one).json()["role"] == "admin"
    for hidden in (project.slug, "hidden", "nowhere"):
        answer = get(f"/api/v1/projects/{hidden}", one)
        assert (answer.status_code, answer.json()["title"]) == (404, "Not found")


def test_an_address_where_nothing_is_answers_with_a_problem_too(alice, project):
    token = make_token(alice)
    for path in ("/api/v1/nothing", "/api/v1/projects/a%00b", f"/api/v1/projects/{project.slug}/runs/x"):
        answer = get(path, token)
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    answer = Client(enforce_csrf_checks=True).post("/api/v1/nothing", {}, content_type="application/json")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


def test_what_cannot_be_done_that_way_says_how(alice, project):
    token = make_token(alice, "read", "train")
    runs = f"/api/v1/projects/{project.slug}/runs"
    answer = Client().delete(runs, headers=bearer(token))
    assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json")
    assert answer["Allow"] == "GET, HEAD, OPTIONS, POST"
    answer = Client().options(runs)
    assert (answer.status_code, answer["Allow"], answer.content) == (204, "GET, HEAD, OPTIONS, POST", b"")
    head, whole = Client().head(ME, headers=bearer(token)), get(ME, token)
    assert (head.status_code, head.content, head["Content-Length"]) == (200, b"", str(len(whole.content)))

    def send(body: bytes | str, kind: str = "application/json", **more: str) -> tuple[int, str]:
        answer = Client().post(runs, body, content_type=kind, headers=bearer(token) | more)
        return answer.status_code, answer["Content-Type"]

    problem = "application/problem+json"
    assert send("{}", "text/plain") == (415, problem)
    assert send(b"x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)) == (413, problem)
    for damaged in (b"\xff", "{", '{"arguments": {"beta": NaN}}', "[" * 100_000):
        assert send(damaged) == (400, problem)
    assert send("{}", Host="evil.example") == (400, problem)


def test_pages_follow_one_another_by_cursor(alice, project):
    for number in range(4):
        made = Project.objects.create(slug=f"p{number}", name="P", created_by=alice)
        Membership.objects.create(project=made, user=alice, role="admin")
    token, seen, cursor = make_token(alice), [], ""
    while True:
        page = get(f"/api/v1/projects?limit=2&cursor={cursor}", token).json()
        seen += [item["slug"] for item in page["items"]]
        cursor = page["next"]
        if not cursor:
            break
    assert seen == ["p3", "p2", "p1", "p0", project.slug]
    asked = Client().get("/api/v1/projects?limit=2", headers=bearer(token), CONTENT_TYPE="application/json")
    assert len(asked.json()["items"]) == 2, "a number in an address is text, whatever the request says of its body"
    for wrong in ("cursor=garbage", "cursor=%00", "limit=0", "limit=1000", "limit=x"):
        answer = get(f"/api/v1/projects?{wrong}", token)
        assert answer.status_code == 422
        assert wrong.partition("=")[0] in answer.json()["errors"]


def test_too_many_requests_are_answered_with_how_long_to_wait(alice, project, settings, monkeypatch):
    settings.API_REQUESTS_PER_MINUTE = 3
    token = make_token(alice)
    minute = timezone.now().replace(second=0, microsecond=0)
    answers = [get(ME, token) for _ in range(4)]
    if timezone.now().replace(second=0, microsecond=0) == minute:
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[3]["Retry-After"]) <= 60
        assert answers[2]["RateLimit"].startswith('"minute";r=0;t=')
    ApiToken.objects.update(minute=minute - timedelta(minutes=1))
    monkeypatch.setattr(moments, "SECONDS", 0.0)
    settings.API_REQUESTS_PER_MINUTE = 4
    assert get(ME, token).status_code == 200


def test_the_description_is_openapi_3_1_and_names_every_operation():
    description = Client().get("/api/v1/openapi.json").json()
    assert description["openapi"].startswith("3.1")
    operations = [one for path in description["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations) > 8
    assert all(one["security"][0]["Token"] and one["summary"] and one["tags"] for one in operations)
    for one in operations:
        kinds = {status: list(answer.get("content", {})) for status, answer in one["responses"].items()}
        assert all(kind == ["application/problem+json"] for status, kind in kinds.items() if "400" <= status != "416")
        assert ("415" in kinds) == ("requestBody" in one)


def test_stored_answers_are_forgotten_after_a_month(alice, project):
    make_token(alice)
    token = ApiToken.objects.get()
    for key, days in (("old", 31), ("young", 29)):
        made = StoredResponse.objects.create(token=token, key=key, fingerprint="f" * 64, status=201, body={})
        StoredResponse.objects.filter(pk=made.pk).update(created_at=timezone.now() - timedelta(days=days))
    assert tasks.forget_responses() == 1
    assert StoredResponse.objects.get().key == "young"
