"""Where dataset versions come from and what was trained on them."""

from annotate.models import Membership
from tests.annotate.rows import build, rank
from tests.annotate.test_tokens import get, make_token
from tests.conftest import make_task, signed_in
from tests.training.test_api import post
from training.models import Checkpoint, Promotion, Run


def test_a_version_tells_its_runs_their_checkpoints_and_which_answers(project, alice, bob, rita):
    rank(make_task(project, texts=["Yes", "No"]), bob, [1, 2])
    first = build(project, rita)
    build(project, rita, parent=first)
    made = []
    for method in ("dpo", "sft", "reward"):
        run = Run.objects.create(project=project, method=method, arguments={}, dataset_version=first)
        made.append(
            Checkpoint.objects.create(project=project, name=method, kind="causal_lm", location="folder:/x", run=run)
        )
    for checkpoint in made[:2]:
        Promotion.objects.create(project=project, checkpoint=checkpoint)
    told = get("/api/v1/projects/tides/datasets/1/lineage", make_token(rita)).json()
    assert (told["parent"], told["children"], told["prompts"]) == (None, [2], 1)
    assert told["sources"] == [{"source": "imported", "rankings": 1}]
    pseudonym = Membership.objects.get(user=bob).pseudonym
    assert told["annotators"] == [{"annotator": pseudonym, "role": "annotator", "rankings": 1}]
    promoted = {run["method"]: [one["promoted"] for one in run["checkpoints"]] for run in told["runs"]}
    assert promoted == {"reward": [""], "sft": ["now"], "dpo": ["once"]}
    page = signed_in(rita).get("/projects/tides/datasets/1").content.decode()
    for shown in ("Run", "Promoted before", pseudonym, 'href="/projects/tides/datasets/2"'):
        assert shown in page
    assert (
        "No run has trained on this version yet" in signed_in(rita).get("/projects/tides/datasets/2").content.decode()
    )


def test_rankings_that_came_by_the_api_have_no_import(project, alice, rita):
    given = {"prompt": "Why?", "completions": ["a", "b"], "rankings": [{"ranks": [1, 2], "annotator": "ann"}]}
    sent = post("/api/v1/projects/tides/rows", make_token(alice, "read", "write"), {"rows": [given]})
    assert sent.json()["rankings"] == 1, sent.content
    build(project, rita, test_fraction=0)
    told = get("/api/v1/projects/tides/datasets/1/lineage", make_token(rita))
    assert told.json()["imports"] == [{"id": None, "file_name": "", "rankings": 1}], told.content
    assert "By the API" in signed_in(rita).get("/projects/tides/datasets/1").content.decode()
