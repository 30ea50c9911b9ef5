"""Background work of the annotation side. Tasks take ids, claim, and call one service."""

from celery import shared_task

from annotate import jobs
from annotate.models import DatasetVersion, Import, Project, QualityReport
from annotate.services import adjudication, assignments, overlap, tokens
from annotate.services.datasets import build_version
from annotate.services.imports import run_import as read_import


@shared_task(name="annotate.run_import")
def run_import(pk: int) -> None:
    job = jobs.claim(Import, pk)
    if job:
        read_import(job)


@shared_task(name="annotate.build_dataset_version")
def build_dataset_version(pk: int) -> None:
    version = jobs.claim(DatasetVersion, pk)
    if version:
        build_version(version)


@shared_task(name="annotate.build_quality_report")
def build_quality_report(pk: int) -> None:
    # numpy, scipy and pandas are for the worker alone, and only once there is a report to compute.
    from annotate.quality.report import build_report

    report = jobs.claim(QualityReport, pk)
    if report:
        build_report(report)


@shared_task(name="annotate.reap_jobs")
def reap_jobs() -> None:
    jobs.reap(Import, run_import)
    jobs.reap(DatasetVersion, build_dataset_version)
    jobs.reap(QualityReport, build_quality_report)


@shared_task(name="annotate.apply_overlap")
def apply_overlap(pk: int) -> None:
    overlap.apply_overlap(project=Project.objects.get(pk=pk), actor=None)


@shared_task(name="annotate.expire_leases")
def expire_leases() -> None:
    assignments.expire_leases()


@shared_task(name="annotate.compare_rankings")
def compare_rankings() -> None:
    adjudication.compare_rankings()


@shared_task(name="annotate.forget_responses")
def forget_responses() -> int:
    return tokens.forget_responses()
