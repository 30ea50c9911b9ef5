"""The whole loop through real parts: browser, web server, Postgres, broker, worker and trainer, on the tiny model."""

import json
import shutil
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import Page, expect

from annotate.models import Completion, Project, Ranking, RankingTask
from tests.browser.pages import open_ranking, press, shown_texts, token_of, wait_for_task_after
from tests.recipes.conftest import tiny_model
from training.models import Checkpoint, Promotion, Run

__all__ = ["tiny_model"]

PROMPTS = 12
TRAINER_TIMEOUT = 180_000
# Plain answers of growing warmth: the annotators of this test prefer the last.
ANSWERS = ["no", "maybe so", "yes, gladly", "yes, gladly and with all my heart"]


def write_prompts(folder: Path) -> Path:
    file = folder / "prompts.jsonl"
    rows = [
        {"prompt": f"Will you help me with chore {number}?", "completions": [f"{text} ({number})" for text in ANSWERS]}
        for number in range(PROMPTS)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"prompt": ""}\n', encoding="utf-8")
    return file


def wish(texts: dict[str, str]) -> list[str]:
    """The letters, best first, as somebody would rank who likes warm answers; anything unknown comes last."""
    return sorted(texts, key=lambda letter: (-len(texts[letter]), letter))


def rank_with_keyboard(page: Page) -> None:
    token = token_of(page)
    for place, letter in enumerate(wish(shown_texts(page)), start=1):
        press(page, f"{letter.lower()} {place}")
    press(page, "Enter")
    wait_for_task_after(page, token)


def rank_with_mouse(page: Page) -> None:
    token = token_of(page)
    for place, letter in enumerate(wish(shown_texts(page)), start=1):
        page.locator(f'.card[data-letter="{letter}"] [data-put="{place}"]').click()
    page.locator("#submit").click()
    wait_for_task_after(page, token)


def add_base_model(page: Page, folder: Path) -> None:
    inside_a_root = settings.MODEL_ROOTS[0] / "main-job"
    shutil.copytree(folder, inside_a_root, dirs_exist_ok=True)
    page.goto("/projects/tides/checkpoints/add")
    page.locator('[name="kind"]').select_option("folder")
    page.locator('[name="place"]').fill(str(inside_a_root))
    page.locator('[name="name"]').fill("tiny")
    page.get_by_role("button", name="Add").click()
    page.wait_for_url("**/checkpoints**")
    assert Checkpoint.objects.filter(name="tiny").exists()


def start_run(page: Page, method: str, **values: str) -> Run:
    page.goto(f"/projects/tides/runs/new/{method}")
    advanced = page.locator("details", has=page.get_by_text("More arguments"))
    advanced.evaluate("element => element.open = true")
    for name, value in values.items():
        field = page.locator(f'[name="{name}"]')
        if value in ("on", "off"):
            field.set_checked(value == "on")
        elif field.evaluate("element => element.tagName") == "SELECT":
            field.select_option(label=value)
        else:
            field.fill(value)
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/runs/*")
    expect(page.locator(".badge[data-state=succeeded], .badge[data-state=failed]").first).to_be_visible(
        timeout=TRAINER_TIMEOUT
    )
    run = Run.objects.latest("pk")
    assert run.state == "succeeded", f"{method}: {run.error}\n{run.log_tail}"
    return run


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_rankings_become_a_better_policy_whose_completions_are_ranked_next(
    open_page, worker, project: Project, alice, bob, tmp_path, tiny_model
):
    Project.objects.filter(pk=project.pk).update(overlap=2)
    admin, annotator = open_page(alice), open_page(bob)

    admin.goto("/projects/tides/imports")
    admin.locator('[name="file"]').set_input_files(write_prompts(tmp_path))
    admin.get_by_role("button", name="Upload", exact=True).click()
    admin.get_by_role("button", name="Import", exact=True).click()
    expect(admin.locator(".badge[data-state=succeeded]").first).to_be_visible(timeout=30_000)
    expect(admin.locator("main")).to_contain_text("prompt")
    assert RankingTask.objects.count() == PROMPTS
    assert project.imports.get().rows_refused == 1

    open_ranking(admin, project)
    open_ranking(annotator, project)
    for _ in range(PROMPTS):
        rank_with_keyboard(annotator)
        rank_with_mouse(admin)
    expect(annotator.locator("#ranking, .empty").first).to_be_visible()
    assert Ranking.objects.current().count() == 2 * PROMPTS
    assert set(RankingTask.objects.values_list("submitted", flat=True)) == {2}

    admin.goto("/projects/tides/datasets")
    admin.locator('[name="test_fraction"]').fill("0.3")
    admin.get_by_role("button", name="Build").click()
    expect(admin.locator(".badge[data-state=succeeded]").first).to_be_visible(timeout=30_000)
    version = project.dataset_versions.get()
    assert version.counts["rankings"] == 2 * PROMPTS

    add_base_model(admin, tiny_model)
    quick = {"max_steps": "8", "learning_rate": "0.002", "bf16": "off", "max_length": "256", "eval_steps": "4"}
    reward = start_run(admin, "reward", **quick)
    metrics = reward.result["metrics"]
    assert metrics["eval_accuracy"] > 0.9, metrics
    expect(admin.locator("figure.chart svg").first).to_be_visible()

    dpo = start_run(admin, "dpo", **quick)
    made = Checkpoint.objects.get(run=dpo)
    assert made.parent == Checkpoint.objects.get(name="tiny")

    admin.goto(f"/projects/tides/checkpoints/{made.pk}")
    admin.get_by_role("link", name="Promote").click()
    admin.get_by_role("button", name="Promote").click()
    expect(admin.get_by_text("Promoted").first).to_be_visible()
    assert Promotion.objects.latest("pk").checkpoint == made

    start_run(admin, "generate", num_prompts="2", num_generations="3", max_new_tokens="12", bf16="off")
    written = Completion.objects.filter(source=made.source)
    assert 2 <= written.count() <= 6
    assert RankingTask.objects.count() > PROMPTS

    open_ranking(annotator, project)
    before = Ranking.objects.current().count()
    texts = shown_texts(annotator)
    token = token_of(annotator)
    for place, letter in enumerate(sorted(texts), start=1):
        press(annotator, f"{letter.lower()} {place}")
    press(annotator, "Enter")
    wait_for_task_after(annotator, token)
    ranking = Ranking.objects.current().latest("pk")
    assert Ranking.objects.current().count() == before + 1
    assert {ranked.completion.source for ranked in ranking.ranked_completions.all()} == {made.source}
