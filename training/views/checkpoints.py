"""The registry of checkpoints: the family tree, one checkpoint with its lineage, promoting, adding a base model."""

from dataclasses import dataclass, field

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.jobs import Job
from annotate.models import Completion
from training.evaluation import told_of
from training.forms import BaseModelForm, PromoteForm
from training.metrics import final_figures
from training.models import Checkpoint, Run
from training.services.checkpoints import add_base_model, promote, promoted_checkpoint
from training.templatetags.runs import method_title

SHOWN_COMPLETIONS = 5
SHOWN_EVALUATIONS = 10
SHOWN_FIGURES = 1


@dataclass
class Branch:
    """A checkpoint with what was trained from it."""

    checkpoint: Checkpoint
    figures: list[tuple[str, str]]
    roles: list[str]
    branches: list["Branch"] = field(default_factory=list)


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def checkpoints(request: ProjectRequest) -> HttpResponse:
    project = request.membership.project
    rows = project.checkpoints.select_related("run__dataset_version").order_by("pk")
    context = {
        "tree": _tree(list(rows), _roles(request)),
        "promoted": promoted_checkpoint(project),
    }
    return render(request, "training/checkpoints.html", context)


def _roles(request: ProjectRequest) -> dict[int, list[str]]:
    """Checkpoint id → what it was used for, such as “Reward model × 2”."""
    used = Run.objects.filter(project=request.membership.project).values_list("run_inputs__checkpoint", "method")
    roles: dict[int, list[str]] = {}
    for checkpoint, method, count in used.annotate(Count("pk")).order_by("method"):
        roles.setdefault(checkpoint, []).append(method_title(method) + (f" × {count}" if count > 1 else ""))
    return roles


def _tree(rows: list[Checkpoint], roles: dict[int, list[str]]) -> list[Branch]:
    branches = {
        row.pk: Branch(
            row,
            final_figures(row.metrics)[:SHOWN_FIGURES],
            roles.get(row.pk, []),
        )
        for row in rows
    }
    roots: list[Branch] = []
    for row in rows:
        siblings = branches[row.parent_id].branches if row.parent_id in branches else roots
        siblings.append(branches[row.pk])
    return roots


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def checkpoint(request: ProjectRequest, pk: int) -> HttpResponse:
    project = request.membership.project
    found = get_object_or_404(project.checkpoints.select_related("run__dataset_version", "parent", "source"), pk=pk)
    completions = Completion.objects.filter(source=found.source) if found.source else Completion.objects.none()
    context = {
        "checkpoint": found,
        "figures": final_figures(found.metrics),
        "is_promoted": promoted_checkpoint(project) == found,
        "ancestry": _ancestry(found),
        "children": found.children.order_by("pk"),
        "evaluations": _evaluations(found),
        "used_in": found.run_inputs.select_related("run").order_by("-run_id")[:50],
        "promotions": found.promotions.select_related("promoted_by").order_by("-pk"),
        "history": project.promotions.select_related("checkpoint", "promoted_by").order_by("-pk")[:20],
        "n_completions": completions.count(),
        "completions": completions.select_related("prompt").order_by("-pk")[:SHOWN_COMPLETIONS],
    }
    return render(request, "training/checkpoint.html", context)


def _evaluations(found: Checkpoint) -> list[tuple[Run, list[tuple[str, str]]]]:
    """The newest evaluations that measured it, with the figures that say something of it."""
    rows = found.run_inputs.filter(run__method="evaluate", run__state=Job.State.SUCCEEDED).select_related("run")
    told = [(item.run, told_of(item.run, item.role)) for item in rows.order_by("-run_id")[:SHOWN_EVALUATIONS]]
    return [(run, figures) for run, figures in told if figures]


def _ancestry(found: Checkpoint) -> list[Checkpoint]:
    """The checkpoint, what it was trained from, and so on to the base."""
    line = [found]
    while parent_id := line[-1].parent_id:
        line.append(Checkpoint.objects.select_related("run__dataset_version").get(pk=parent_id))
    return line


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def checkpoint_promote(request: ProjectRequest, pk: int) -> HttpResponse:
    project = request.membership.project
    found = get_object_or_404(project.checkpoints, pk=pk)
    form = PromoteForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            promote(checkpoint=found, user=request.user, note=form.cleaned_data["note"])
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(
                request, _("%(name)s is promoted: it answers the prompts from here on.") % {"name": found.name}
            )
            return redirect("checkpoint", project.slug, found.pk)
    context = {"checkpoint": found, "promoted": promoted_checkpoint(project), "form": form}
    return render(request, "training/checkpoint_promote.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def checkpoint_add(request: ProjectRequest) -> HttpResponse:
    project = request.membership.project
    form = BaseModelForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            added = add_base_model(
                project=project, name=form.cleaned_data["name"], location=form.location, user=request.user
            )
        except ValidationError as error:
            for name, reasons in error.message_dict.items():
                form.add_error(form.location_field if name == "location" else name, reasons)
        else:
            messages.success(request, _("%(name)s is in the registry.") % {"name": added.name})
            return redirect("checkpoint", project.slug, added.pk)
    return render(request, "training/checkpoint_add.html", {"form": form}, status=422 if form.errors else 200)
