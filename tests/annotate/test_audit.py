"""Every change is written down, in the database for good, and can be read."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from annotate.forms.audit import KINDS, AuditForm
from annotate.models import AuditEvent, DatasetVersion, Invitation, Membership, Project, Ranking, record
from annotate.sentences import SENTENCES
from annotate.views.audit import PAGE
from tests.annotate.known_orders import answer, make_known_tasks
from tests.annotate.ranking_page import held, opened, submit, undo, url
from tests.annotate.rows import rank
from tests.annotate.test_settings import save
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def test_the_database_refuses_to_change_or_delete_an_entry(project, alice):
    record(alice, "project.created", project=project)
    for tamper in (lambda rows: rows.update(verb="nothing"), lambda rows: rows.delete()):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            tamper(AuditEvent.objects.all())
    assert AuditEvent.objects.get().verb == "project.created"


def test_what_the_log_speaks_of_is_kept(project, alice):
    record(alice, "project.created", project=project)
    with pytest.raises(ProtectedError):
        project.delete()


def post(user, project, path, **data):
    response = signed_in(user).post(f"/projects/{project.slug}/{path}", data, follow=True)
    assert response.status_code == 200
    return response


def member(project, username):
    return Membership.objects.get(project=project, user__username=username)


def ranks(project, user):
    make_task(project)
    answer(user, project)
    return Ranking.objects.latest("pk")


def take_back(project, alice, bob):
    undo(bob, project, ranks(project, bob).token)


def decide(project, alice, bob):
    task = make_task(project)
    rank(task, bob, [1, 2, 3, 4])
    page = signed_in(alice).get(f"/projects/{project.slug}/tasks/{task.pk}/decide")
    token = page.context["form"]["token"].value()
    places = {f"place_{letter}": place for place, letter in enumerate("ABCD", start=1)}
    post(alice, project, f"tasks/{task.pk}/decide", token=token, verdict="ranked", **places)


def flag(project, alice, bob):
    make_task(project)
    opened(bob, project)
    signed_in(bob).post(url(project, "flag", held(bob)), {"reason": "no_sense", "comment": ""})


def settle(decision):
    def act(project, alice, bob):
        flag(project, alice, bob)
        post(alice, project, f"flags/{project.flags.get().pk}", decision=decision, resolution="")

    return act


def prioritise(project, alice, bob):
    pk = make_task(project).pk
    post(alice, project, f"tasks/{pk}/priority", change="raise", what=str(pk))


def know(project, alice, bob):
    task = make_task(project)
    places = {f"place_{pk}": place for place, pk in enumerate(task.completions.values_list("pk", flat=True), start=1)}
    post(alice, project, f"known/add?task={task.pk}", purpose="gold", explanation="", **places)


def know_otherwise(project, alice, bob):
    (task,) = make_known_tasks(project, 1)
    pks = task.completions.order_by("-pk").values_list("pk", flat=True)
    places = {f"place_{pk}": place for place, pk in enumerate(pks, start=1)}
    post(alice, project, f"known/{task.pk}", purpose="gold", explanation="", **places)


def forget(project, alice, bob):
    (task,) = make_known_tasks(project, 1)
    post(alice, project, f"known/{task.pk}", action="remove")


def create_project(project, alice, bob):
    alice.is_staff = True
    alice.save()
    signed_in(alice).post("/projects/new", {"name": "Winds", "overlap": 1, "completions_per_task": 4})


def add(project, alice, bob):
    make_user("dora")
    post(alice, project, "members", person="dora", role="researcher")


def change_member(project, alice, bob, **data):
    post(alice, project, f"members/{member(project, 'bob').pk}", **data)


def pause(project, alice, bob, action="pause"):
    post(alice, project, f"members/{member(project, 'bob').pk}/pause", action=action)


def resume(project, alice, bob):
    pause(project, alice, bob)
    pause(project, alice, bob, "resume")


def invite(project, alice, bob):
    post(alice, project, "invitations", role="annotator", days=7, max_uses=1, note="")


def revoke(project, alice, bob):
    invite(project, alice, bob)
    post(alice, project, f"invitations/{Invitation.objects.get().pk}/revoke")


def make_token(project, alice, bob):
    fields = {"name": "n", "scopes": ["read"], "days": 7, "project": project.pk}
    signed_in(alice).post("/account/tokens", fields)


def revoke_token(project, alice, bob):
    make_token(project, alice, bob)
    signed_in(alice).post(f"/account/tokens/{alice.api_tokens.get().pk}/revoke")


def join(project, alice, bob):
    page = post(alice, project, "invitations", role="annotator", days=7, max_uses=1, note="")
    client = signed_in(make_user("dora"))
    client.get(page.context["new_link"])
    client.post("/join")


def upload(project, alice, bob):
    file = SimpleUploadedFile("waves.jsonl", b'{"prompt": "Why?", "completions": ["a", "b"]}\n')
    post(alice, project, "imports", file=file)
    post(alice, project, f"imports/{project.imports.get().pk}/start", preferences="keep")


def freeze(project, alice, bob):
    rank(make_task(project), bob, [1, 2, 3, 4])
    post(alice, project, "datasets", note="", test_fraction="0.1")
    assert DatasetVersion.objects.exists()


def cancel_import(project, alice, bob):
    upload(project, alice, bob)
    post(alice, project, f"imports/{project.imports.get().pk}/cancel")


def cancel_dataset(project, alice, bob):
    freeze(project, alice, bob)
    post(alice, project, f"datasets/{project.dataset_versions.get().number}/cancel")


def name_dataset(*given):
    def act(project, alice, bob):
        freeze(project, alice, bob)
        for note, tag in given:
            post(alice, project, "datasets/1/name", note=note, tag=tag)

    return act


def write_ideal(project, alice, bob):
    make_task(project)
    opened(bob, project)
    signed_in(bob).post(url(project, "demonstration", held(bob)), {"text": "Scattering."})


def withdraw_ideal(project, alice, bob):
    write_ideal(project, alice, bob)
    post(alice, project, f"demonstrations/{project.demonstrations.get().pk}/withdraw")


def revise(project, alice, bob):
    ranking = ranks(project, bob)
    signed_in(bob).post(f"/projects/{project.slug}/my-rankings/revise", {"token": str(ranking.token)})
    assignment = held(bob)
    submit(bob, assignment, ["D"], ["C"], ["B"], ["A"])


def tell(project, alice, bob):
    post(alice, project, "webhooks", url="https://example.org/hook", events=["run.ended"], note="")


def act_on_webhook(*actions):
    def act(project, alice, bob):
        tell(project, alice, bob)
        for action in actions:
            post(alice, project, f"webhooks/{project.webhooks.get().pk}/act", action=action)

    return act


ACTS = {
    "ranking.submitted": lambda project, alice, bob: ranks(project, bob),
    "ranking.taken_back": take_back,
    "ranking.decided": decide,
    "task.flagged": flag,
    "task.reopened": settle("reopen"),
    "task.closed": settle("close"),
    "tasks.overlap_changed": lambda project, alice, bob: (make_task(project), save(alice, project, overlap=2)),
    "tasks.priority_changed": prioritise,
    "known.added": know,
    "known.changed": know_otherwise,
    "known.removed": forget,
    "settings.changed": lambda project, alice, bob: save(alice, project, name="Ebb"),
    "project.created": create_project,
    "member.added": add,
    "member.joined": join,
    "member.role_changed": lambda project, alice, bob: change_member(project, alice, bob, role="researcher"),
    "member.removed": lambda project, alice, bob: change_member(project, alice, bob, action="remove"),
    "member.paused": pause,
    "member.resumed": resume,
    "member.qualified": lambda project, alice, bob: pause(project, alice, bob, "qualify"),
    "invitation.created": invite,
    "invitation.revoked": revoke,
    "token.created": make_token,
    "token.revoked": revoke_token,
    "import.started": upload,
    "import.cancelled": cancel_import,
    "dataset.started": freeze,
    "dataset.cancelled": cancel_dataset,
    "dataset.tagged": name_dataset(("", "stable")),
    "dataset.untagged": name_dataset(("", "stable"), ("", "")),
    "dataset.noted": name_dataset(("Weekly", "")),
    "webhook.added": tell,
    "webhook.changed": act_on_webhook("rotate"),
    "webhook.paused": act_on_webhook("pause"),
    "webhook.resumed": act_on_webhook("pause", "resume"),
    "webhook.removed": act_on_webhook("remove"),
    "demonstration.written": write_ideal,
    "demonstration.withdrawn": withdraw_ideal,
}
# tests/training
ELSEWHERE = {
    *("dataset.published", "dataset.made", "run.started", "run.cancelled", "checkpoint.added", "checkpoint.promoted"),
    *("pipeline.added", "pipeline.changed", "pipeline.archived", "pipeline.restored"),
    *("pipeline.started", "pipeline.cancelled", "pipeline.resumed"),
    *("trigger.added", "trigger.paused", "trigger.resumed", "trigger.deleted"),
}


def test_every_kind_of_act_is_tried_and_has_its_words():
    assert ACTS.keys() | ELSEWHERE == SENTENCES.keys() | {"settings.changed"}
    starts = tuple(verb for _label, verbs in KINDS.values() for verb in verbs)
    assert all(verb.startswith(starts) for verb in ACTS.keys() | ELSEWHERE)


@pytest.mark.parametrize("verb", ACTS)
def test_each_act_is_written_down_and_can_be_read(project, alice, bob, verb):
    ACTS[verb](project, alice, bob)
    event = AuditEvent.objects.filter(verb=verb).latest("pk")
    by_annotator = verb in {"ranking.submitted", "ranking.taken_back", "task.flagged", "demonstration.written"}
    who = "dora" if verb == "member.joined" else "bob" if by_annotator else "alice"
    assert event.project
    assert str(event.actor) == who
    page = signed_in(alice).get(f"/projects/{event.project.slug}/audit")
    (sentence,) = [entry.sentence for entry in page.context["entries"] if entry.event == event]
    assert who in sentence
    assert verb not in sentence
    assert "…" not in sentence
    for link in [entry.url for entry in page.context["entries"] if entry.url]:
        assert signed_in(alice).get(link).status_code == 200


def sentences(user, project, **filters):
    page = signed_in(user).get(f"/projects/{project.slug}/audit", filters)
    assert page.status_code == 200
    return [entry.sentence for entry in page.context["entries"]]


def test_settings_are_told_as_they_were_and_as_they_are(project, alice):
    save(alice, project, overlap=3, criteria="Tone\nTruth", ask_comment="on", guidelines="Be kind. " * 20)
    (told,) = sentences(alice, project)
    for words in (
        "“People per task” from 1 to 3",
        "“Criteria” from nothing to Tone, Truth",
        "“Comment” from no to yes",
        "“Guidelines”",
    ):
        assert words in told
    assert "Be kind" not in told


def test_it_is_filtered_by_person_kind_target_and_time(project, alice, bob):
    task = make_task(project)
    opened(bob, project)
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    save(alice, project, name="Ebb")
    change_member(project, alice, bob, role="researcher")
    everything = sentences(alice, project)
    assert len(everything) == 3
    assert sentences(alice, project, person="bob") == ["bob ranked a task."]
    assert sentences(alice, project, kind="settings") == ["alice changed “Name” from “Tides” to “Ebb”."]
    assert sentences(alice, project, kind="people") == ["alice changed bob from Annotator to Researcher."]
    assert sentences(alice, project, target="user", which="bob") == sentences(alice, project, kind="people")
    assert sentences(alice, project, target="task", which=str(task.pk)) == ["bob ranked a task."]
    today = timezone.localdate()
    assert sentences(alice, project, since=today, until=today) == everything
    assert sentences(alice, project, until=today - timedelta(days=1)) == []
    assert sentences(alice, project, since="0001-01-01", until="9999-12-31") == everything
    assert sentences(alice, project, person="bob", kind="people") == []


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"person": "charlie"}, "Nobody of this name"),
        ({"person": "nobody"}, "Nobody of this name"),
        ({"target": "user", "which": "charlie"}, "Nobody of this name"),
        ({"target": "task", "which": "12; DROP"}, "Give its number"),
        ({"target": "task"}, "Give its number"),
        ({"target": "actor__password", "which": "1"}, "not one of the available choices"),
        ({"kind": "actor__password"}, "not one of the available choices"),
        ({"since": "soon"}, "valid date"),
        ({"since": "2026-02-01", "until": "2026-01-01"}, "before the first day"),
        ({"person": "x\0"}, "Null characters"),
    ],
)
def test_it_refuses_filters_that_mean_nothing_and_shows_no_entry(project, alice, charlie, filters, words):
    save(alice, project, name="Ebb")
    page = signed_in(alice).get(f"/projects/{project.slug}/audit", filters)
    assert words in page.content.decode()
    assert page.context["entries"] == []
    assert signed_in(alice).get(f"/projects/{project.slug}/audit.csv", filters).status_code == 302


def test_pages_follow_each_other_without_gap_or_repetition(project, alice):
    for number in range(2 * PAGE + 5):
        record(alice, "import.started", f"import:{number}", project=project, file=f"{number}.jsonl")
    seen, query = [], "kind=data"
    while query:
        page = signed_in(alice).get(f"/projects/{project.slug}/audit?{query}")
        seen += [entry.event.target for entry in page.context["entries"]]
        query = page.context["older"]
    assert seen == [f"import:{number}" for number in reversed(range(2 * PAGE + 5))]
    for before in ("0", "x", "9" * 30, "-1"):
        assert signed_in(alice).get(f"/projects/{project.slug}/audit?before={before}").status_code == 200


def test_it_tells_nothing_of_other_projects(project, alice, charlie):
    elsewhere = Project.objects.create(slug="winds", name="Winds", created_by=charlie)
    record(charlie, "settings.changed", project=elsewhere)
    last = AuditEvent.objects.get()
    assert sentences(alice, project, before=last.pk) == []
    save(alice, project, name="Ebb")
    assert len(sentences(alice, project, before=last.pk)) == 1


def test_it_is_exported_whole_without_formulas(project, alice):
    save(alice, project, name="=1+1")
    evil = make_user("=cmd")
    Membership.objects.create(project=project, user=evil, role="admin")
    save(evil, Project.objects.get(), name="Ebb")
    response = signed_in(alice).get(f"/projects/{project.slug}/audit.csv")
    assert response.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.getvalue().decode())))
    assert [row["person"] for row in rows] == ["'=cmd", "alice"]
    assert not any(cell.startswith("=") for row in rows for cell in row.values())
    assert json.loads(rows[1]["details"])["changes"]["name"] == {"before": "Tides", "after": "=1+1"}


def test_entries_are_found_by_an_index_whatever_is_asked_for(project, alice, bob):
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO annotate_auditevent (project_id, actor_id, verb, target, details, at)
            SELECT %s, %s, 'ranking.submitted', 'ranking:' || n, '{}', now() - n * interval '1 minute'
            FROM generate_series(1, 20000) n""",
            [project.pk, bob.pk],
        )
        record(alice, "settings.changed", f"project:{project.pk}", project=project)
        cursor.execute("ANALYZE annotate_auditevent")
    for filters, index in (
        ({}, "audit_by_project"),
        ({"person": "alice"}, "audit_by_actor"),
        ({"kind": "settings"}, "audit_but_rankings"),
        ({"target": "ranking", "which": "3"}, "audit_by_target"),
        ({"since": timezone.localdate() - timedelta(days=2)}, "audit_by_project"),
    ):
        form = AuditForm(filters, project=project)
        assert form.is_valid()
        plan = form.entries()[:PAGE].explain()
        assert index in plan
        assert "Seq Scan on annotate_auditevent" not in plan
