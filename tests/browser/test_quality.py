"""The quality pages in a real browser: they fill themselves once the report is there, and everybody can read them."""

import pytest
from playwright.sync_api import expect

from annotate import tasks
from annotate.models import QualityReport
from tests.annotate.simulation import crowd, simulate, store
from tests.browser.pages import axe_violations

pytestmark = pytest.mark.browser


def build():
    for report in QualityReport.objects.filter(state="queued"):
        tasks.build_quality_report(report.pk)


def test_a_report_appears_by_itself_and_everybody_can_read_it(open_page, project, alice):
    rankings = simulate(crowd([0.3, 0.4, 0.4], [0, 0, 0.9]), tasks=16)
    rankings.created[:] *= 600
    store(rankings, project)
    page = open_page(alice, reduced_motion="reduce")
    addresses = [f"/projects/{project.slug}/quality{path}" for path in ("", "/leaderboard", "/tasks?list=all")]
    page.goto(addresses[0])
    expect(page.get_by_text("The numbers are being worked out.")).to_be_visible()
    build()
    expect(page.get_by_role("heading", name="Agreement", exact=True)).to_be_visible()
    page.goto(addresses[1])
    build()
    expect(page.get_by_role("heading", name="Who won against whom")).to_be_visible()
    found = []
    for scheme, width in (("light", 1440), ("dark", 390)):
        page = open_page(alice, color_scheme=scheme, viewport=(width, 900), reduced_motion="reduce")
        for address in addresses:
            page.goto(address)
            page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
            found += axe_violations(page)
            assert page.evaluate("document.documentElement.scrollWidth") == width, address
    assert found == []
