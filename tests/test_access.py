"""Who may open what: every address of the project, asked for by everybody."""

import pytest
from django.urls import get_resolver, reverse

from annotate.models import DatasetVersion, Demonstration, Flag, Import, Invitation, Membership, Publication, Source
from annotate.services.tokens import create_token
from annotate.services.webhooks import add_webhook, send_test
from tests.annotate.known_orders import make_known
from tests.conftest import make_task, signed_in
from training.models import Checkpoint, Pipeline, PipelineRun, Run, RunInput, Trigger
from training.recipes.arguments import parse_arguments, to_json

# Invitations: whoever has the link (tests/annotate/test_invitations.py).
ANYONE = {"join", "joining"}
# The least that somebody must be. Annotators and researchers do not include each other; an admin is both.
MAY = {
    "signed in": {"home", "project_new", "tokens", "token_revoke"},
    "member": {"project", "guidelines"},
    "annotator": {
        *("my_rankings", "ranking_revise"),
        *("rank_difference", "rank_demonstration_difference"),
        *("rank", "rank_submit", "rank_skip", "rank_flag", "rank_draft", "rank_demonstration", "rank_undo"),
    },
    "researcher": {
        *("quality", "quality_table", "quality_tasks", "leaderboard", "leaderboard_table"),
        *(
            "prompts",
            "prompt",
            "task",
            "datasets",
            "dataset",
            "dataset_download",
            "dataset_publications",
            "dataset_cancel",
        ),
        *("dataset_name", "dataset_tagged", "dataset_table", "dataset_rows", "task_versions"),
        *("dataset_compare", "dataset_diff", "dataset_diff_rows"),
        *("runs", "run", "run_log", "run_metrics", "run_chart", "run_evaluation", "checkpoints", "checkpoint"),
        *("pipelines", "pipeline", "pipeline_run"),
    },
    "admin": {
        *(
            "project_settings",
            "settings_preview",
            "project_state",
            "project_members",
            "project_member",
            "flags",
            "flag_settle",
        ),
        *("invitation_create", "invitation_revoke", "audit", "audit_csv"),
        *("webhooks", "webhook", "webhook_act", "delivery_resend"),
        *("known_tasks", "known_task_add", "known_task", "member_pause"),
        *("imports", "import", "import_refused", "import_cancel"),
        *("import_preview", "import_start", "import_discard", "import_refused_lines"),
        *("dataset_publish", "publication_cancel"),
        *("adjudication", "task_decide", "task_state", "task_priority", "demonstration_withdraw"),
        *("run_new", "run_cancel", "run_retry", "checkpoint_add", "checkpoint_promote"),
        *("pipeline_new", "pipeline_edit", "pipeline_start", "pipeline_archive", "pipeline_trigger_new", "trigger"),
        *("pipeline_run_cancel", "pipeline_run_resume"),
    },
}
NAMES = sorted(set.union(*MAY.values()))


def named_patterns(resolver):
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            yield from named_patterns(pattern)
        elif pattern.callback.__module__.partition(".")[0] in ("annotate", "training"):
            yield pattern.name


def test_every_address_is_in_the_table_once():
    assert sorted(named_patterns(get_resolver())) == sorted({*NAMES, *ANYONE})
    assert sum(map(len, MAY.values())) == len(NAMES)


def address(name, project, bob):
    """An address at which there is something, so that a refusal is one of the role."""
    if name == "token_revoke":
        return reverse(name, args=[create_token(user=bob, name="n", scopes=["read"], days=1)[0].pk])
    if name in MAY["signed in"]:
        return reverse(name)
    task = make_task(project)
    source = Source.objects.create(project=project, name="small", kind=Source.Kind.CHECKPOINT)
    checkpoint = Checkpoint.objects.create(
        project=project, name="small", kind=Checkpoint.Kind.CAUSAL_LM, location="folder:/nowhere", source=source
    )
    run = Run.objects.create(project=project, method="generate", arguments=to_json(parse_arguments("generate", {})))
    RunInput.objects.create(run=run, role="policy", checkpoint=checkpoint)
    pipeline = Pipeline.objects.create(project=project, name="nightly", definition="", created_by=bob)
    pipeline_run = PipelineRun.objects.create(project=project, pipeline=pipeline, definition="", revision=1)
    version = DatasetVersion.objects.create(
        project=project, number=1, tag="first", as_of=project.created_at, created_by=bob
    )
    signed_in(bob).get(reverse("rank", args=[project.slug]))
    webhook = add_webhook(project=project, user=bob, url="https://example.org", events=["run.ended"])[0]
    rows = {
        "rank": bob.assignments.get(),
        "project": Membership.objects.get(user=bob),
        "flag": Flag.objects.create(project=project, task=task, raised_by=bob, reason="x"),
        "prompt": task.prompt,
        "task": task,
        "known": make_known(make_task(project, "Known?")),
        "member": Membership.objects.get(user=bob),
        "demonstration": Demonstration.objects.create(
            project=project, completion=task.completions.all()[0], author=bob
        ),
        "import": Import.objects.create(project=project, created_by=bob, file_name="a.jsonl", file="imports/a"),
        "publication": Publication.objects.create(version=version, repository="a/b", shape="sft", created_by=bob),
        "run": run,
        "webhook": webhook,
        "delivery": send_test(webhook=webhook),
        "checkpoint": checkpoint,
        "pipeline": pipeline,
        "trigger": Trigger.objects.create(pipeline=pipeline, kind="rankings", rankings=10, created_by=bob),
        "invitation": Invitation.objects.create(
            project=project, role="annotator", token_hash="0" * 64, created_by=bob, expires_at=project.created_at
        ),
    }
    wanted = next(pattern for pattern in get_resolver().reverse_dict.getlist(name))[0][0][1]
    values = {"slug": project.slug, "number": version.number, "method": "generate", "key": "loss"}
    values |= {"run_pk": pipeline_run.pk, "kind": "rankings", "tag": "first", "other": version.number}
    values["pk"] = getattr(rows.get(name.partition("_")[0]), "pk", 1)
    return reverse(name, kwargs={key: values[key] for key in wanted})


def allowed(name):
    """The roles that may, of the three."""
    level = next(level for level, names in MAY.items() if name in names)
    return {
        "signed in": {"annotator", "researcher", "admin"},
        "member": {"annotator", "researcher", "admin"},
        "annotator": {"annotator", "admin"},
        "researcher": {"researcher", "admin"},
        "admin": {"admin"},
    }[level]


@pytest.mark.parametrize("name", NAMES)
def test_each_role_reaches_what_is_its_own_and_nothing_else(project, alice, bob, rita, charlie, client, name):
    path = address(name, project, bob)

    def answers(client):
        """Of the methods that the address takes at all."""
        statuses = {client.get(path).status_code, client.post(path).status_code}
        assert statuses != {405}
        return statuses - {405}

    for method in (client.get, client.post):
        response = method(path)
        assert response.status_code in (302, 401, 405)
        assert response.status_code != 302 or response.headers["Location"].startswith("/accounts/login/")
    if name in ("home", "tokens"):
        assert answers(signed_in(charlie)) <= {200, 422}
    elif name == "project_new":
        assert answers(signed_in(charlie)) == {403}
    else:
        assert answers(signed_in(charlie)) == {404}
    people = {"annotator": bob, "researcher": rita, "admin": alice}
    if name == "token_revoke":  # nobody but its owner
        people = {"annotator": bob}
    if name == "project_new":  # for staff, whatever their roles are
        alice.is_staff = True
        alice.save()
        people = {"admin": alice}
    for role in people.keys() - allowed(name):
        assert answers(signed_in(people[role])) == {403}, role
    for role in people.keys() & allowed(name):
        statuses = answers(signed_in(people[role]))
        assert 403 not in statuses, role
        assert max(statuses) < 500, role
