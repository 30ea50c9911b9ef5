"""A pipeline's stages as the pages show them: line by line, and drawn."""

from dataclasses import dataclass

from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from annotate.models import DatasetVersion
from training.definitions import DATASET, PROMOTE, VERSION, Definition
from training.graph import Node, draw
from training.models import Checkpoint, PipelineRun, StageRun
from training.services.pipelines import made_version
from training.templatetags.runs import method_title


@dataclass(frozen=True)
class Made:
    """A checkpoint or dataset version, and where to look at it."""

    label: str
    url: str


@dataclass(frozen=True)
class Feed:
    """What a stage takes as `role`; `meant` is what the reference meant when the run started, where it names no stage."""

    role: str
    reference: str
    meant: Made | None


@dataclass(frozen=True)
class Line:
    """One stage of a pipeline, and where a run stands with it."""

    name: str
    title: str
    note: str
    feeds: list[Feed]
    after: list[str]
    row: StageRun | None
    made: list[Made]
    url: str


def stage_title(method: str) -> str:
    words = {DATASET: _("Freeze the rankings"), PROMOTE: _("Promote")}
    return words.get(method) or method_title(method)


def lines_of(slug: str, definition: Definition, pipeline_run: PipelineRun | None) -> list[Line]:
    stages = (
        pipeline_run.stages.select_related("dataset_version").prefetch_related("runs__checkpoints")
        if pipeline_run
        else []
    )
    rows = {row.name: row for row in stages}
    meant = _meant(slug, pipeline_run) if pipeline_run else {}
    return [
        Line(
            name=stage.name,
            title=stage_title(stage.method),
            note=stage.note,
            feeds=[Feed(role, text, meant.get(text)) for role, text in stage.references.items()],
            after=list(stage.after),
            row=rows.get(stage.name),
            made=_made(slug, rows.get(stage.name)),
            url=_url(slug, rows.get(stage.name)),
        )
        for stage in definition.stages
    ]


def _url(slug: str, row: StageRun | None) -> str:
    if row and row.run:
        return reverse("run", args=[slug, row.run.pk])
    if row and row.dataset_version:
        return reverse("dataset", args=[slug, row.dataset_version.number])
    return ""


def _made(slug: str, row: StageRun | None) -> list[Made]:
    if row is None:
        return []
    checkpoints: list[Checkpoint] = sorted(row.run.checkpoints.all(), key=lambda one: one.pk) if row.run else []
    made = [_checkpoint(slug, one) for one in checkpoints]
    if version := made_version(row):
        made.append(_dataset(slug, version))
    return made


def _meant(slug: str, pipeline_run: PipelineRun) -> dict[str, Made]:
    """Reference → what it meant when the run started."""
    versions = {text: pk for text, pk in pipeline_run.given.items() if text.startswith(VERSION)}
    datasets = DatasetVersion.objects.in_bulk(versions.values())
    checkpoints = Checkpoint.objects.in_bulk([pk for text, pk in pipeline_run.given.items() if text not in versions])
    return {
        text: _dataset(slug, datasets[pk]) if text in versions else _checkpoint(slug, checkpoints[pk])
        for text, pk in pipeline_run.given.items()
        if pk in (datasets if text in versions else checkpoints)
    }


def _checkpoint(slug: str, found: Checkpoint) -> Made:
    return Made(found.name, reverse("checkpoint", args=[slug, found.pk]))


def _dataset(slug: str, version: DatasetVersion) -> Made:
    return Made(_("Dataset %(version)s") % {"version": version}, reverse("dataset", args=[slug, version.number]))


def graph_of(definition: Definition, lines: list[Line]) -> SafeString:
    by_name = {line.name: line for line in lines}
    nodes = []
    for stage in definition.stages:
        line = by_name[stage.name]
        state, label = (line.row.state, line.row.get_state_display()) if line.row else ("", "")
        nodes.append(Node(stage.name, line.title, tuple(stage.waits_for), state, label, line.url))
    return draw(nodes)
