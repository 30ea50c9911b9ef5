from typing import Any, NamedTuple, cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import ProjectRequest, Role, member_required
from annotate.charts import Bar, BarChart
from annotate.forms.projects import ProjectForm
from annotate.models import Membership, Project, User
from annotate.numbers import grouped
from annotate.services.overview import (
    DAYS,
    SAMPLE,
    Activity,
    Progress,
    Work,
    count_roles,
    measure_progress,
    median_seconds,
    recent_activity,
)
from annotate.services.projects import count_project, create_project

from .next_steps import next_steps

PEOPLE = 12
HOUR = 3600


@require_http_methods(["GET", "POST"])
@login_required
def project_new(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    if not user.is_staff:
        raise PermissionDenied
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        project = create_project(project=form.save(commit=False), creator=user)
        return redirect(project)
    return render(request, "annotate/project_form.html", {"form": form})


@require_GET
@member_required()
def project(request: ProjectRequest) -> HttpResponse:
    membership = request.membership
    project = membership.project
    counts = count_project(project)
    context: dict[str, Any] = {
        "project": project,
        "membership": membership,
        "counts": counts,
        "next_steps": next_steps(membership, counts),
        "progress": measure_progress(project),
        "sample": SAMPLE,
    }
    if membership.may_read_data:
        activity = recent_activity(project)
        context |= {
            "effort": estimate_effort(context["progress"], median_seconds(project)),
            "activity": activity,
            "chart": chart_of(activity),
            "people": people_of(membership, activity),
            "roles": roles_of(project),
        }
    else:
        context["mine"] = recent_activity(project, member=membership).members.get(membership.pk)
    return render(request, "annotate/project.html", context)


def estimate_effort(progress: Progress, seconds: float | None) -> dict[str, str] | None:
    """How long it will take to rank what is left, in words, and the pace it is reckoned with."""
    if not progress.left or seconds is None:
        return None
    total = progress.left * seconds
    if total < HOUR:
        minutes = max(1, round(total / 60))
        time = ngettext("%(count)s minute", "%(count)s minutes", minutes) % {"count": minutes}
    else:
        hours = round(total / HOUR)
        time = ngettext("%(count)s hour", "%(count)s hours", hours) % {"count": grouped(hours)}
    return {"time": time, "seconds": grouped(round(seconds))}


def chart_of(activity: Activity) -> BarChart | None:
    """None where nobody ranked in all that time."""
    if not any(activity.days.values()):
        return None
    bars = tuple(
        Bar(date_format(day, pgettext("date format", "j M")), count, str(count) if count else "")
        for day, count in activity.days.items()
    )
    total = sum(activity.days.values())
    description = ngettext(
        "%(count)s ranking in %(days)s days; the table below has each day.",
        "%(count)s rankings in %(days)s days; the table below has each day.",
        total,
    ) % {"count": total, "days": DAYS}
    return BarChart(key="rankings-per-day", title=_("Rankings per day"), description=description, bars=bars)


class Person(NamedTuple):
    name: str
    role: str
    is_paused: bool
    work: Work


def people_of(membership: Membership, activity: Activity) -> list[Person]:
    """Whoever ranked lately, the latest first, PEOPLE at most. Admins see names, researchers pseudonyms."""
    members = membership.project.memberships.present().filter(pk__in=activity.members).select_related("user")
    people = [
        Person(
            member.user.username if membership.is_admin else member.pseudonym,
            member.get_role_display(),
            member.paused_at is not None,
            activity.members[member.pk],
        )
        for member in members
    ]
    return sorted(people, key=lambda person: person.work.last, reverse=True)[:PEOPLE]


def roles_of(project: Project) -> list[str]:
    """How many have each role that somebody has."""
    counts = count_roles(project)
    words = {
        Role.ADMIN: ngettext("%(count)s admin", "%(count)s admins", counts[Role.ADMIN]),
        Role.ANNOTATOR: ngettext("%(count)s annotator", "%(count)s annotators", counts[Role.ANNOTATOR]),
        Role.RESEARCHER: ngettext("%(count)s researcher", "%(count)s researchers", counts[Role.RESEARCHER]),
    }
    return [phrase % {"count": counts[role]} for role, phrase in words.items() if counts[role]]
