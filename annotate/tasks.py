"""Background work of the annotation side. Tasks take ids, claim, and call one service."""

from celery import shared_task

from annotate import downloads, jobs
from annotate.models import DatasetVersion, Import, Project, Publication, QualityReport
from annotate.services import adjudication, assignments, comparisons, overlap, publications, tokens
from annotate.services.datasets import build_version
from annotate.services.imports import discard_old_drafts
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


@shared_task(name="annotate.compare_versions")
def compare_versions(pk: int, base: int) -> None:
    versions = DatasetVersion.objects.in_bulk([pk, base])
    comparisons.run_comparison(versions[pk], versions[base])


@shared_task(name="annotate.publish_dataset")
def publish_dataset(pk: int) -> None:
    publication = jobs.claim(Publication, pk)
    if publication:
        publications.publish(publication)


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
    jobs.reap(Publication, publish_dataset)
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


@shared_task(name="annotate.deliver_events")
def deliver_events(project: int | None = None) -> None:
    """Send what is due of every project, whichever one's event woke this."""
    # What sends is for the worker alone.
    from annotate.services.delivering import deliver_due

    if deliver_due():
        deliver_events.apply_async(expires=60)  # behind whatever else waits for this worker


@shared_task(name="annotate.forget_events")
def forget_events() -> int:
    from annotate.services import delivering

    return delivering.forget_events()


@shared_task(name="annotate.trim_exports")
def trim_exports() -> int:
    return downloads.trim_exports()


@shared_task(name="annotate.forget_responses")
def forget_responses() -> int:
    return tokens.forget_responses()


@shared_task(name="annotate.discard_old_drafts")
def discard_drafts() -> int:
    return discard_old_drafts()
