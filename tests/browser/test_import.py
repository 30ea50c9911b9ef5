"""A file is looked at, its columns are named, what it would do is counted, and it is imported."""

import json

import pytest
from playwright.sync_api import expect

from annotate.models import Import, Ranking, RankingTask
from tests.browser.pages import axe_violations


@pytest.mark.browser
def test_a_file_is_corrected_counted_and_imported(open_page, worker, project, alice, tmp_path):
    rows = [
        {"question": f"Why {number}?", "good": {"text": f"Because {number}."}, "bad": {"text": "No *idea*."}}
        for number in range(30)
    ]
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"question": "", "good": {}, "bad": {}}]))
    page = open_page(alice)
    page.goto("/projects/tides/imports")
    page.locator('[name="file"]').set_input_files(path)
    page.get_by_role("button", name="Upload", exact=True).click()

    preview = page.locator("#preview")
    expect(preview).to_contain_text("31 refused")
    page.get_by_text("The file's columns have names of their own").click()
    page.get_by_label("Prompt", exact=True).fill("question")
    page.get_by_label("Better completion").fill("good.text")
    page.get_by_label("Worse completion").fill("bad.text")
    expect(preview).to_contain_text("30 would be taken")
    expect(preview.locator(".import-answers li").first).to_contain_text("Because 0.")
    expect(preview.locator(".import-answers li em").first).to_have_text("idea")
    assert axe_violations(page) == []
    assert not RankingTask.objects.exists()

    page.get_by_role("button", name="Count first").click()
    expect(page.get_by_role("heading", name="What an import would do")).to_be_visible(timeout=60_000)
    assert Import.objects.get().forecast["rankings_added"] == 30
    assert not RankingTask.objects.exists()
    expect(page.get_by_label("Better completion")).to_have_value("good.text")

    page.get_by_role("button", name="Import", exact=True).dblclick()
    expect(page.locator(".badge[data-state=succeeded]")).to_be_visible(timeout=60_000)
    assert (RankingTask.objects.filter(state="closed").count(), Ranking.objects.count()) == (30, 30)
    expect(page.locator("main")).to_contain_text("The tasks whose preferences came along are closed")
    assert axe_violations(page) == []
