"""Pipelines and triggers through the pages and the command."""

import re

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Membership, Project
from annotate.sentences import SENTENCES
from annotate.tasks import build_dataset_version
from tests.conftest import make_task, signed_in
from tests.training.conftest import rank_tasks, write_script
from tests.training.pipeline_runs import DIRECT, FORK, make_pipeline, promoted_base, work
from training import tasks
from training.definitions import parse_definition
from training.graph import Node, draw
from training.models import Pipeline, PipelineRun, Run, Trigger
from training.services.pipelines import shipped_definitions

HTMX = {"HX-Request": "true"}


@pytest.fixture
def ready(project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    return project


def url(name, project, *args):
    return reverse(name, args=[project.slug, *args])


def page(user, name, project, *args, **headers):
    response = signed_in(user).get(url(name, project, *args), headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def post(user, view, project, /, *args, **data):
    return signed_in(user).post(url(view, project, *args), data)


def test_an_empty_list_offers_what_comes_with_podium(project, alice, rita):
    html = page(alice, "pipelines", project)
    for name, text in shipped_definitions().items():
        assert parse_definition(text).title in html
        assert f"?from={name}" in html
        form = signed_in(alice).get(url("pipeline_new", project), {"from": name})
        assert form.context["form"].initial["definition"] == text
    assert "?from=" not in page(rita, "pipelines", project)


def test_one_is_written_checked_started_and_watched(ready, alice):
    client = signed_in(alice)
    saved = client.post(url("pipeline_new", ready), {"name": "nightly", "definition": FORK})
    pipeline = Pipeline.objects.get()
    assert saved.headers["Location"] == url("pipeline", ready, pipeline.pk)
    html = page(alice, "pipeline", ready, pipeline.pk)
    assert html.count('class="graph-node"') == 3
    assert "could not start" not in html
    assert "style=" not in html
    started = client.post(url("pipeline_start", ready, pipeline.pk))
    run = PipelineRun.objects.get()
    assert started.headers["Location"] == url("pipeline_run", ready, run.pk)
    html = page(alice, "pipeline_run", ready, run.pk)
    for stage in Run.objects.all():
        assert f'href="{url("run", ready, stage.pk)}"' in html
    assert html.count('data-state="waiting"') == 2, "in the graph and in the table"
    assert "Running" in page(alice, "pipelines", ready)
    assert "A pipeline of this project is running" in page(alice, "pipeline", ready, pipeline.pk)
    mark = client.get(url("pipeline_run", ready, run.pk)).context["mark"]
    poll = f"{url('pipeline_run', ready, run.pk)}?seen="
    assert client.get(poll + mark, headers=HTMX).status_code == 204
    assert 'id="live"' in client.get(poll + "before", headers=HTMX).content.decode()
    again = client.post(url("pipeline_start", ready, pipeline.pk), follow=True)
    assert "running already" in again.content.decode()
    assert PipelineRun.objects.count() == 1
    client.post(url("pipeline_run_cancel", ready, run.pk))
    run.refresh_from_db()
    assert run.state == "cancelled"
    assert client.get(poll + mark, headers=HTMX).headers["HX-Refresh"] == "true"
    assert client.get(url("pipeline", ready, pipeline.pk), headers=HTMX).headers["HX-Refresh"] == "true"
    assert "Resume where it stopped" in page(alice, "pipeline_run", ready, run.pk)
    client.post(url("pipeline_run_resume", ready, run.pk))
    run.refresh_from_db()
    assert run.state == "running"


def test_faults_are_shown_by_stage_and_field_and_nothing_is_saved(ready, alice):
    wrong = FORK.replace('after = ["left", "right"]', 'after = ["lefd"]\narguments = { num_prompts = 0 }')
    response = post(alice, "pipeline_new", ready, name="x", definition=wrong)
    assert response.status_code == 422
    html = response.content.decode()
    assert "<code>last.after</code>: There is no stage “lefd”" in html
    assert "<code>last.arguments.num_prompts</code>: must be at least 1" in html
    assert html.count('class="graph-node"') == 3, "what can be drawn is drawn"
    for data in (
        {"name": "", "definition": FORK},
        {"name": "x", "definition": ""},
        {"name": "x\0", "definition": FORK},
    ):
        assert post(alice, "pipeline_new", ready, **data).status_code == 422
    assert post(alice, "pipeline_new", ready, name="x", definition="<script>alert(1)</script>").status_code == 422
    assert not Pipeline.objects.exists()


def test_the_preview_draws_what_is_typed_and_saves_nothing(ready, alice):
    def preview(definition: str) -> str:
        data = {"name": "", "definition": definition}
        response = signed_in(alice).post(url("pipeline_new", ready), data, headers=HTMX)
        assert response.status_code == 200
        html = response.content.decode()
        assert "<html" not in html
        return html

    assert "It could start now" in preview(FORK)
    assert "no checkpoint “gone”" in preview(FORK.replace("checkpoint:base", "checkpoint:gone"))
    assert "This is not TOML" in preview("[stages")
    assert "<script>" not in preview('[stages."<script>"]\nmethod = "dataset"')
    assert not Pipeline.objects.exists()


def test_a_name_is_taken_once_and_a_change_makes_a_revision(ready, alice):
    pipeline = make_pipeline(ready, alice, FORK)
    assert post(alice, "pipeline_new", ready, name="short", definition=FORK).status_code == 422
    for _twice in range(2):
        post(alice, "pipeline_edit", ready, pipeline.pk, name="short", definition=DIRECT)
    pipeline.refresh_from_db()
    assert (pipeline.revision, pipeline.definition.split()) == (2, DIRECT.split())
    assert AuditEvent.objects.filter(verb="pipeline.changed").count() == 1


@pytest.mark.django_db(transaction=True)
def test_its_page_shows_what_each_stage_made_and_why_one_failed(script_recipe, project, alice, bob, rita, base):
    promoted_base(base, alice)
    rank_tasks(project, bob, 2)
    pipeline = make_pipeline(project, alice)
    post(alice, "pipeline_start", project, pipeline.pk)
    run = PipelineRun.objects.get()
    build_dataset_version(project.dataset_versions.get().pk)
    tasks.advance_pipeline(run.pk)
    write_script(Run.objects.get(), end="event")
    assert work(run) == "failed"
    html = page(rita, "pipeline_run", project, run.pk)
    assert "The loss is not a number since step 2." in html
    assert url("dataset", project, 1) in html
    assert "Resume" not in html, "a researcher reads"
    post(alice, "pipeline_run_resume", project, run.pk)
    run.refresh_from_db()
    assert work(run) == "succeeded"
    html = page(rita, "pipeline_run", project, run.pk)
    for checkpoint in project.checkpoints.filter(run__isnull=False):
        assert checkpoint.name in html
    html = page(rita, "run", project, Run.objects.order_by("pk")[0].pk)
    assert "short: sft" in html
    assert url("pipeline_run", project, run.pk) in html


def test_triggers_are_added_seen_paused_and_deleted(ready, alice, rita):
    pipeline = make_pipeline(ready, alice, FORK)
    added = post(
        alice, "pipeline_trigger_new", ready, pipeline.pk, "rankings", rankings=1000, cool_down_hours=12, budget_hours=""
    )  # fmt: skip
    assert added.status_code == 302
    post(
        alice, "pipeline_trigger_new", ready, pipeline.pk, "schedule",
        cron="30 3 * * *", time_zone="Europe/Berlin", cool_down_hours=0, budget_hours=24,
    )  # fmt: skip
    first, second = Trigger.objects.order_by("pk")
    html = page(rita, "pipeline", ready, pipeline.pk)
    assert "0 of 1,000 new rankings" in html
    assert "rests 12 h after a run" in html
    assert "0.0 of 24 h in 7 days used" in html
    assert html.count(" 03:30") == 3, "the next three times, in the schedule's own zone"
    assert 'value="pause"' not in html
    assert "Every 1,000 new rankings" in page(rita, "pipelines", ready)
    post(alice, "trigger", ready, first.pk, action="pause")
    assert "Paused" in page(alice, "pipeline", ready, pipeline.pk)
    post(alice, "trigger", ready, first.pk, action="resume")
    assert Trigger.objects.get(pk=first.pk).paused_at is None
    post(alice, "trigger", ready, second.pk, action="delete")
    post(alice, "trigger", ready, first.pk, action="explode")
    assert list(Trigger.objects.all()) == [first]


@pytest.mark.parametrize(
    ("kind", "field", "value", "words"),
    [
        ("schedule", "cron", "every night", "Five fields"),
        ("schedule", "cron", "61 * * * *", "Bad minute"),
        ("schedule", "time_zone", "Middle/Earth", "not one of the available choices"),
        ("schedule", "cool_down_hours", "-1", "greater than or equal to 0"),
        ("schedule", "budget_hours", "0", "greater than or equal to 0.01"),
        ("rankings", "rankings", "0", "greater than or equal to 1"),
        ("rankings", "rankings", "", "required"),
        ("rankings", "cool_down_hours", "nan", "Enter a number"),
    ],
)
def test_a_trigger_that_means_nothing_is_refused_at_its_field(ready, alice, kind, field, value, words):
    pipeline = make_pipeline(ready, alice, FORK)
    good = {"cron": "30 3 * * *", "time_zone": "UTC", "rankings": 5, "cool_down_hours": 0, "budget_hours": ""}
    response = post(alice, "pipeline_trigger_new", ready, pipeline.pk, kind, **good | {field: value})
    assert response.status_code == 422
    assert words in " ".join(response.context["form"].errors[field])
    assert not Trigger.objects.exists()


def test_the_form_says_when_a_schedule_comes_next(ready, alice):
    pipeline = make_pipeline(ready, alice, FORK)
    address = url("pipeline_trigger_new", ready, pipeline.pk, "schedule")
    query: dict[str, str | int] = {"cron": "0 12 * * *", "time_zone": "Asia/Tokyo", "cool_down_hours": 0}
    html = signed_in(alice).get(address, query, headers=HTMX).content.decode()
    assert html.count(" 12:00") == 3
    assert "Asia/Tokyo" in html
    assert "Bad hour" in signed_in(alice).get(address, query | {"cron": "0 25 * * *"}, headers=HTMX).content.decode()


def test_every_act_is_in_the_audit_log_in_words(ready, alice, bob):
    pipeline = make_pipeline(ready, alice, FORK)
    post(alice, "pipeline_edit", ready, pipeline.pk, name="nightly", definition=FORK)
    for action in ("archive", "archive", "restore"):
        post(alice, "pipeline_archive", ready, pipeline.pk, action=action)
    post(alice, "pipeline_start", ready, pipeline.pk)
    run = PipelineRun.objects.get()
    post(alice, "pipeline_run_cancel", ready, run.pk)
    post(alice, "pipeline_run_resume", ready, run.pk)
    post(alice, "pipeline_trigger_new", ready, pipeline.pk, "rankings", rankings=5, cool_down_hours=0)
    for action in ("pause", "resume", "delete"):
        post(alice, "trigger", ready, Trigger.objects.get().pk, action=action)
    verbs = [verb for verb in SENTENCES if verb.startswith(("pipeline.", "trigger."))]
    log = signed_in(alice).get(url("audit", ready), {"kind": "models"})
    entries = {entry.event.verb: entry for entry in log.context["entries"]}
    assert set(verbs) <= entries.keys()
    for verb in verbs:
        assert AuditEvent.objects.filter(verb=verb).count() == 1
        assert "alice" in entries[verb].sentence
        assert "…" not in entries[verb].sentence
    for address in {entry.url for entry in entries.values()} - {""}:
        assert signed_in(alice).get(address).status_code == 200
    assert "a trigger (5 rankings) of the pipeline “nightly”" in entries["trigger.paused"].sentence


def test_what_a_trigger_starts_is_said_to_be_podium_s_doing(ready, alice):
    pipeline = make_pipeline(ready, alice, FORK)
    post(
        alice, "pipeline_trigger_new", ready, pipeline.pk, "schedule",
        cron="30 3 * * *", time_zone="UTC", cool_down_hours=0,
    )  # fmt: skip
    Trigger.objects.update(next_at=timezone.now())
    tasks.tend_pipelines()
    log = signed_in(alice).get(url("audit", ready), {"kind": "models"})
    assert "Podium started the pipeline “short”." in [entry.sentence for entry in log.context["entries"]]
    assert "by its schedule" in page(alice, "pipeline_run", ready, PipelineRun.objects.get().pk)


def test_nothing_of_another_project_is_reached(ready, alice, charlie):
    elsewhere = Project.objects.create(slug="winds", name="Winds", created_by=charlie)
    Membership.objects.create(project=elsewhere, user=alice, role="admin")
    pipeline = make_pipeline(ready, alice, FORK)
    post(alice, "pipeline_trigger_new", ready, pipeline.pk, "rankings", rankings=5, cool_down_hours=0)
    post(alice, "pipeline_start", ready, pipeline.pk)
    client, run = signed_in(alice), PipelineRun.objects.get()
    for name in ("pipeline", "pipeline_edit"):
        assert client.get(url(name, elsewhere, pipeline.pk)).status_code == 404
    assert client.get(url("pipeline_new", elsewhere), {"from": pipeline.pk}).status_code == 404
    assert client.get(url("pipeline_run", elsewhere, run.pk)).status_code == 404
    for name, pk in (
        ("pipeline_start", pipeline.pk),
        ("pipeline_archive", pipeline.pk),
        ("pipeline_run_cancel", run.pk),
        ("trigger", Trigger.objects.get().pk),
    ):
        assert client.post(url(name, elsewhere, pk), {"action": "delete"}).status_code == 404
    # Nor by its definition: the other project's checkpoint is not this one's.
    stranger = make_pipeline(elsewhere, alice, FORK.replace("promoted", "checkpoint:base"))
    assert "no checkpoint “base”" in page(alice, "pipeline", elsewhere, stranger.pk)


def test_the_command_starts_one_and_says_what_is_wrong(ready, alice, base, tmp_path, capsys):
    file = tmp_path / "fork.toml"
    file.write_text(FORK)
    call_command("start_pipeline", "tides", "fork", "--file", str(file), "--user", "alice")
    assert PipelineRun.objects.get().pipeline.name == "fork"
    assert "has started" in capsys.readouterr().out
    with pytest.raises(CommandError, match="running already"):
        call_command("start_pipeline", "tides", "fork")
    run = PipelineRun.objects.get()
    Run.objects.update(state="failed", error="It broke.")
    tasks.advance_pipeline(run.pk)
    file.write_text(FORK.replace("checkpoint:base", "checkpoint:gone"))
    for arguments, words in (
        (["tides", "nightly"], "It has: fork"),
        (["winds", "fork"], "no project"),
        (["tides", "fork", "--user", "nobody"], "no user"),
        (["tides", "fork", "--file", str(tmp_path / "gone.toml")], "cannot be read"),
        (["tides", "fork", "--file", str(file)], "right, policy: The project has no checkpoint “gone”"),
    ):
        with pytest.raises(CommandError, match=words):
            call_command("start_pipeline", *arguments)
    assert Pipeline.objects.get().revision == 1, "what could not start was not changed, either"


def test_the_graph_puts_each_stage_below_all_that_it_waits_for():
    nodes = [
        Node("d", "", ("b", "a", "gone")),
        Node("c", "", ("a",)),
        Node("b", "", ("a",)),
        Node("a", ""),
        Node("<x>", "&", ("d", "c")),
    ]
    svg = draw(nodes)
    found = {
        name: float(y) for y, name in re.findall(r'y="([\d.]+)" text-anchor="middle" class="graph-name">([^<]+)<', svg)
    }
    assert found["a"] < found["b"] == found["c"] < found["d"] < found["&lt;x&gt;"]
    assert svg.count('class="graph-edge"') == 8, "one for each row that an edge crosses"
    assert "<x>" not in svg
    draw([Node("a", "", ("b",)), Node("b", "", ("a",)), Node("c", "", ("c",))])
