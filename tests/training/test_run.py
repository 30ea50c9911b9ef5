"""A run's page: live parts, charts, samples, failure, cancel and retry."""

import re
import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.conftest import signed_in
from tests.training.conftest import queue_run
from training.models import Run, RunEvent
from training.services.folders import run_folder


@pytest.fixture
def run(base, dataset) -> Run:
    run = queue_run(base, "dpo", dataset)
    Run.objects.filter(pk=run.pk).update(
        state="running", step=3, total_steps=10, progress=0.3, seconds_left=75, attempt=1
    )
    run.refresh_from_db()
    return run


def add_event(run: Run, kind: str, step: int, attempt: int = 1, **data) -> None:
    run.events.create(
        offset=run.events.count() * 100, attempt=attempt, kind=kind, step=step, data=data, at=timezone.now()
    )


def page(user, run: Run, **query) -> str:
    response = get(user, run, **query)
    assert response.status_code == 200
    return str(response.content.decode())


def get(user, run: Run, **query):
    headers = {"HX-Request": "true"} if "part" in query else {}
    return signed_in(user).get(reverse("run", args=[run.project.slug, run.pk]), query, headers=headers)


def csv(user, run: Run) -> list[str]:
    response = signed_in(user).get(reverse("run_metrics", args=[run.project.slug, run.pk]))
    assert response.streaming
    return b"".join(response).decode().split()


def test_it_shows_progress_and_polls_only_while_the_run_goes_on(rita, run):
    html = page(rita, run)
    assert "Step 3 of 10" in html
    assert "1 min 15 s left" in html
    assert 'hx-trigger="every 2s"' in html
    assert 'style="' not in html
    Run.objects.filter(pk=run.pk).update(state="succeeded")
    assert "every 2s" not in page(rita, run)


def test_the_live_part_answers_only_when_something_moved(rita, run):
    add_event(run, "note", 0, message="3 rankings were left out")
    first = get(rita, run, part="live")
    html = first.content.decode()
    assert "3 rankings were left out" in html
    assert "<html" not in html
    (mark,) = map(unquote, re.findall(r"seen=([^\"]+)", html))
    assert get(rita, run, part="live", seen=mark).status_code == 204
    Run.objects.filter(pk=run.pk).update(step=4)
    assert get(rita, run, part="live", seen=mark).status_code == 200
    Run.objects.filter(pk=run.pk).update(state="failed")
    assert get(rita, run, part="live", seen=mark).headers["HX-Refresh"] == "true"


def test_a_chart_is_svg_that_a_screen_reader_can_read(rita, run):
    for step, loss in ((1, 0.9), (2, 0.5), (3, 0.25)):
        add_event(
            run, "metrics", step, metrics={"loss": loss, "eval_loss": loss + 0.1, "epoch": 1, "learning_rate": 1e-5}
        )
    url = reverse("run_chart", args=[run.project.slug, run.pk, "loss"])
    svg = ElementTree.fromstring(signed_in(rita).get(url).content)  # noqa: S314 - our own
    names = {"s": "http://www.w3.org/2000/svg"}
    assert svg.findtext("s:title", "", names) == "Loss"
    assert "Training: from 0.9 at step 1 to 0.25 at step 3" in svg.findtext("s:desc", "", names)
    lines = svg.findall("s:polyline", names)
    assert len(lines) == 2
    assert lines[0].get("stroke-dasharray") != lines[1].get("stroke-dasharray")
    heights = [float(point.split(",")[1]) for point in lines[0].get("points", "").split()]
    assert heights == sorted(heights), "a falling loss falls on the page"
    html = page(rita, run)
    assert html.count("<svg") == 2
    assert 'style="' not in html
    assert '<th scope="row" class="number">3</th>' in html


def test_after_a_resume_the_points_of_the_newest_attempt_win(rita, run):
    for step in (1, 2, 3, 4):
        add_event(run, "metrics", step, metrics={"loss": 1.0})
    for step in (3,):
        add_event(run, "metrics", step, attempt=2, metrics={"loss": 0.5})
    assert csv(rita, run) == ["step,loss", "1,1.0", "2,1.0", "3,0.5"]


def test_the_page_of_a_long_run_stays_small(rita, run):
    """Of 20 000 steps, resumed once at 15 001: some hundred points a line with the peak, a hundred rows, and all in the CSV."""
    steps = [(step, 1, 1.0) for step in range(1, 18_001)] + [(step, 2, 0.5) for step in range(15_001, 20_001)]
    rows = [(step, attempt, {"loss": loss}) for step, attempt, loss in steps]
    rows += [(step, 2 if step > 15_000 else 1, {"eval_loss": step / 20_000}) for step in range(1000, 20_001, 1000)]
    run.events.bulk_create(
        RunEvent(
            run=run, offset=n, attempt=attempt, kind="metrics", step=step, data={"metrics": metrics}, at=run.queued_at
        )
        for n, (step, attempt, metrics) in enumerate(rows)
    )
    html = page(rita, run)
    training, held_out = re.findall(r'<polyline[^>]* points="([^"]+)"', html)
    assert 100 < len(training.split()) <= 310
    assert len(held_out.split()) == 20, "evaluations are rare: none is left out"
    assert "Training: from 1 at step 1 to 0.5 at step 20000" in html
    assert html.count('<th scope="row" class="number">') == 100
    assert '<th scope="row" class="number">19901</th>' in html
    assert "19900 earlier steps" in html.replace(",", "").replace("\xa0", "")
    lines = csv(rita, run)
    assert (len(lines), lines[0], lines[15_000], lines[15_001]) == (
        20_001,
        "step,loss,eval_loss",
        "15000,1.0,0.75",
        "15001,0.5,",
    )
    assert lines[-1] == "20000,0.5,1.0"


def test_samples_stand_side_by_side_and_are_escaped(rita, run):
    add_event(run, "sample", 5, prompt=[{"role": "user", "content": "Why <b>?"}], before="old <i>", after="<script>new")
    html = page(rita, run)
    assert "&lt;script&gt;new" in html
    assert "old &lt;i&gt;" in html
    assert "<script>new" not in html


def test_a_failed_run_leads_with_cause_and_advice_and_folds_the_log(rita, run):
    Run.objects.filter(pk=run.pk).update(
        state="failed",
        cause="out_of_memory",
        error="The machine ran out of memory.",
        log_tail="Traceback (most recent <call>",
    )
    html = page(rita, run)
    assert "It ran out of memory." in html
    assert "Make per_device_train_batch_size (4) smaller" in html
    before_fold, fold = html.split("The last lines of its log")
    assert "Traceback" not in before_fold
    assert "Traceback (most recent &lt;call&gt;" in fold


def test_the_log_is_escaped_and_can_be_downloaded_whole(rita, run):
    folder = run_folder(run)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes(b"first\n" + b"x\n" * 20000 + b"10%\r20%\r<script>\xff\n")
    html = page(rita, run, part="log")
    assert "&lt;script&gt;" in html
    assert "first" not in html
    response = signed_in(rita).get(reverse("run_log", args=[run.project.slug, run.pk]))
    assert b"".join(response).startswith(b"first\n")
    assert "attachment" in response.headers["Content-Disposition"]


def test_cancel_stops_a_queued_run_at_once_and_asks_a_running_one(alice, run, base, dataset):
    queued = queue_run(base, "dpo", dataset)
    for found, state in ((queued, "cancelled"), (run, "running")):
        signed_in(alice).post(reverse("run_cancel", args=[found.project.slug, found.pk]))
        found.refresh_from_db()
        assert (found.state, found.cancel_requested) == (state, True)
    assert "It is being stopped" in page(alice, run)
    assert "Stop it" not in page(alice, run)


def test_retry_copies_arguments_checkpoints_and_dataset(alice, run, base):
    Run.objects.filter(pk=run.pk).update(state="failed", arguments=run.arguments | {"beta": 0.7})
    signed_in(alice).post(reverse("run_retry", args=[run.project.slug, run.pk]))
    again = Run.objects.get(retry_of=run)
    assert (again.state, again.arguments["beta"], again.dataset_version) == ("queued", 0.7, run.dataset_version)
    assert again.run_inputs.get().checkpoint == base
    assert f"runs/{again.pk}" in page(alice, run)


def test_retry_says_when_the_model_is_gone(alice, run, tmp_path):
    Run.objects.filter(pk=run.pk).update(state="failed")
    (tmp_path / "base").rmdir()
    response = signed_in(alice).post(reverse("run_retry", args=[run.project.slug, run.pk]), follow=True)
    assert "Its weights are gone" in response.content.decode()
    assert not Run.objects.filter(retry_of=run).exists()


def test_the_form_can_start_from_an_earlier_run(alice, run):
    Run.objects.filter(pk=run.pk).update(arguments=run.arguments | {"beta": 0.77})
    url = reverse("run_new", args=[run.project.slug, "dpo"])
    html = signed_in(alice).get(url, {"from": run.pk}).content.decode()
    assert 'name="beta" value="0.77"' in html
