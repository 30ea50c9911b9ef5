"""The page of a watched run, and how its watchdog is chosen. Everything through HTTP."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from django.urls import reverse

from tests.conftest import signed_in
from tests.training.conftest import make_checkpoint, queue_run
from tests.training.test_run import add_event, get, page
from training.models import Checkpoint, Run, RunInput

ASKED = [{"role": "user", "content": "Is it wise?"}]
ENDED = {
    "reason": "over_optimised", "step": 40, "kept_step": 20, "has_watchdog": True, "proxy_at_kept": 0.5, "proxy_at_end": 1.25,
    "watchdog_at_kept": 0.6, "watchdog_at_end": -0.125, "fall": 3.5, "threshold": 2.4, "patience": 2, "kl": 9.0, "max_kl": 0.0,
}  # fmt: skip


@pytest.fixture
def pair(project, base, dataset) -> tuple[Checkpoint, Checkpoint]:
    """A reward model and its watchdog, of one run."""
    run = queue_run(base, "reward", dataset, watchdog=True)
    folder = base.location.partition(":")[2]
    reward, watchdog = (
        make_checkpoint(project, folder, f"scorer{output}", kind="reward_model", run=run, output=output)
        for output in ("", "watchdog")
    )
    return reward, watchdog


@pytest.fixture
def run(base, pair) -> Run:
    run = queue_run(base, "grpo")
    run.run_inputs.exclude(role="policy").delete()
    for role, checkpoint in zip(("reward_model", "watchdog"), pair, strict=True):
        RunInput.objects.create(run=run, role=role, checkpoint=checkpoint)
    Run.objects.filter(pk=run.pk).update(state="running", step=40, total_steps=100, attempt=1)
    run.refresh_from_db()
    return run


def add_look(run, step, proxy, watchdog, kl, fall=0.0, kept=None, texts=("<b>old", "kept", "new")):
    kept = step if kept is None else kept
    metrics = {
        "watch/proxy": proxy, "watch/kl": kl, "watch/kept_step": kept, "watch/proxy_error": 0.1, "watch/length": 9.0,
        **({} if watchdog is None else {"watch/watchdog": watchdog, "watch/watchdog_error": 0.1, "watch/fall": fall, "watch/threshold": 2.4}),
    }  # fmt: skip
    add_event(run, "metrics", step, metrics=metrics)
    scores = {"proxy": proxy} if watchdog is None else {"proxy": proxy, "watchdog": watchdog}
    before, at_kept, after = texts
    add_event(
        run, "sample", step, prompt=ASKED, before=before, kept=at_kept, after=after, kept_step=kept,
        scores={"before": scores, "kept": scores, "after": scores},
    )  # fmt: skip


def add_looks(run):
    add_look(run, 0, 0.0, 0.0, 0.0)
    add_look(run, 20, 0.5, 0.6, 4.0)
    add_look(run, 40, 1.25, -0.125, 9.0, fall=3.5, kept=20)


def test_the_figure_draws_reward_and_watchdog_over_the_way_from_the_reference_and_marks_what_is_kept(rita, run):
    add_looks(run)
    url = reverse("run_chart", args=[run.project.slug, run.pk, "watch"])
    svg = signed_in(rita).get(url).content.decode()
    ElementTree.fromstring(svg)  # noqa: S314 - our own
    assert "Reward: 1.25 since the start, after 3.00." in svg
    assert "Watchdog: -0.12 since the start, after 3.00." in svg or "Watchdog: −0.12 since the start" in svg
    assert "The kept weights are those of step 20, at 2.00." in svg
    assert svg.count("<polyline") == 2
    assert ">kept</text>" in svg
    html = page(rita, run)
    assert html.count('id="chart-watch-title"') == 1
    assert html.count('id="chart-watch-fall-title"') == 1
    assert "Looks: length, in tokens" in html
    assert 'style="' not in html


def test_while_it_goes_on_it_says_how_the_watchdog_stands(rita, run):
    assert "The first look comes before the first step." in page(rita, run)
    add_looks(run)
    html = page(rita, run)
    assert "the watchdog is 3.5 standard errors below its best of step 20; beyond 2.4 at 2 looks in a row" in html
    add_look(run, 60, 1.5, 0.9, 10.0)
    assert "At step 60 the watchdog is at its best." in page(rita, run)
    live = get(rita, run, part="live").content.decode()
    assert "At step 60" in live
    assert "<html" not in live


def test_what_it_wrote_stands_side_by_side_with_the_scores(rita, run):
    add_looks(run)
    html = page(rita, run)
    titles = re.findall(r"<h3>(.*?)</h3>", html)
    assert titles[:3] == ["Before, step 0", "Kept, step 20", "Now, step 40"]
    assert "&lt;b&gt;old" in html
    assert "<b>old" not in html
    assert "Reward 1.25, watchdog" in html
    add_look(run, 60, 1.5, 0.9, 10.0)
    assert re.findall(r"<h3>(.*?)</h3>", page(rita, run))[:2] == ["Before, step 0", "Kept, step 60"]


def test_an_ended_run_says_why_in_one_sentence(rita, run):
    add_looks(run)
    Run.objects.filter(pk=run.pk).update(state="succeeded", result={"metrics": {}, "watch": ENDED})
    html = page(rita, run)
    assert (
        "Stopped at step 40: since step 20 the reward rose from 0.50 to 1.25 while the watchdog fell from 0.60 to"
        in html
    )
    assert "The weights of step 20 are kept." in html
    assert "At the end, step 40" in html
    Run.objects.filter(pk=run.pk).update(result={"watch": {**ENDED, "reason": "divergence", "max_kl": 8.0}})
    assert "the policy has moved 9.0 nats from the reference, and 8.0 are allowed." in page(rita, run)
    Run.objects.filter(pk=run.pk).update(result={"watch": {**ENDED, "reason": ""}})
    assert "Ran to its last step, 40: the watchdog did not fall beyond its noise." in page(rita, run)


def test_a_run_without_a_watchdog_says_what_one_would_do_and_where_to_get_one(alice, rita, run):
    run.run_inputs.filter(role="watchdog").delete()
    add_look(run, 0, 0.0, None, 0.0)
    add_look(run, 20, 0.5, None, 4.0)
    html = page(alice, run)
    assert "Nobody watches this run." in html
    link = reverse("run_new", args=[run.project.slug, "reward"]) + "?watchdog=on"
    assert link in html
    form = signed_in(alice).get(link).content.decode()
    assert re.search(r'<input[^>]*name="watchdog"[^>]*checked', form)
    assert link not in page(rita, run)  # who may not start runs
    assert 'id="chart-watch-title"' in html
    assert 'id="chart-watch-fall-title"' not in html


def test_a_run_that_nobody_can_watch_says_nothing_of_it(rita, base, dataset):
    assert "Watchdog" not in page(rita, queue_run(base, "dpo", dataset))


def test_choosing_a_reward_model_chooses_its_watchdog(alice, project, pair):
    scorer, watchdog = pair
    url = reverse("run_new", args=[project.slug, "grpo"])
    html = signed_in(alice).get(url, {"reward_model": scorer.pk}).content.decode()
    chosen = re.compile(rf'<option value="{watchdog.pk}" selected>')
    assert chosen.search(html)
    part = signed_in(alice).get(
        url, {"reward_model": scorer.pk, "watchdog": "", "part": "watchdog"}, headers={"HX-Request": "true"}
    )
    assert chosen.search(part.content.decode())
    assert "<html" not in part.content.decode()
    assert "id_reward_model" not in part.content.decode()
    part = signed_in(alice).get(url, {"reward_model": watchdog.pk, "part": "watchdog"}, headers={"HX-Request": "true"})
    assert "selected" not in part.content.decode().partition(f'value="{watchdog.pk}"')[2][:20]


def test_a_reward_model_cannot_watch_itself(alice, project, base, pair):
    scorer, _watchdog = pair
    url = reverse("run_new", args=[project.slug, "grpo"])
    response = signed_in(alice).post(url, {"policy": base.pk, "reward_model": scorer.pk, "watchdog": scorer.pk})
    assert response.status_code == 422
    assert not Run.objects.filter(method="grpo").exists()


def test_a_reward_run_shows_both_of_its_checkpoints(rita, pair):
    _scorer, watchdog = pair
    Checkpoint.objects.filter(pk=watchdog.pk).update(
        metrics={"eval_accuracy": 0.7, "eval_accuracy_low": 0.6, "eval_accuracy_high": 0.8}
    )
    run = watchdog.run
    Run.objects.filter(pk=run.pk).update(
        state="succeeded",
        result={
            "metrics": {
                "eval_watchdog_agreement": 0.9,
                "eval_watchdog_agreement_low": 0.8,
                "eval_watchdog_agreement_high": 0.95,
            }
        },
    )
    html = page(rita, run)
    assert "Its watchdog" in html
    assert reverse("checkpoint", args=[run.project.slug, watchdog.pk]) in html
    assert "0.700 (95 % interval 0.600 to 0.800)" in html
    assert "Held-out pairs ordered alike by the watchdog" in html
