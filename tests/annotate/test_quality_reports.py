"""A report from real rows: read, computed by the worker's own task, stored as JSON."""

import json

import pytest

from annotate import tasks
from annotate.services.reports import request_report
from tests.annotate.simulation import crowd, simulate, store

pytestmark = pytest.mark.django_db


def computed(project, kind="quality", **filters):
    report = request_report(project=project, kind=kind, filters=filters)
    tasks.build_quality_report(report.pk)
    report.refresh_from_db()
    assert report.error == ""
    assert report.state == "succeeded"
    return report.results


def test_a_report_has_every_part(project):
    store(simulate(crowd([0.2, 0.5, 1.0]), tasks=12), project)
    results = computed(project)
    print(json.dumps(results, indent=1)[:6000])
    assert results["counts"]["rankings"] == 36
    results = computed(project, kind="leaderboard")
    print(json.dumps(results, indent=1)[:3000])
