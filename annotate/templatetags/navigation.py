"""The tabs of a project: its sections, and the pages inside a section. Each is shown to whom it is for, once its page exists."""

from typing import Any, NamedTuple

from django import template
from django.template import Context
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.models import Membership

register = template.Library()

# Whom a page is for, as the membership says it.
RANKERS, READERS, ADMINS = "may_rank", "may_read_data", "is_admin"


class Page(NamedTuple):
    url_name: str
    label: Promise
    audience: str
    # Pages beside it that it leads to, at addresses of their own.
    also: tuple[str, ...] = ()


SECTIONS = {
    "prompts": (Page("prompts", _("Prompts"), READERS), Page("imports", _("Imports"), ADMINS)),
    "runs": (Page("runs", _("Runs"), READERS), Page("pipelines", _("Pipelines"), READERS)),
    "quality": (
        Page("quality", _("Overview"), READERS, also=("task",)),
        Page("leaderboard", _("Leaderboard"), READERS),
        Page("adjudication", _("Adjudication"), ADMINS, also=("task_decide",)),
        Page("known_tasks", _("Known orders"), ADMINS),
        Page("flags", _("Flags"), ADMINS),
    ),
    "settings": (
        Page("project_settings", _("Settings"), ADMINS),
        Page("webhooks", _("Webhooks"), ADMINS),
        Page("audit", _("Audit log"), ADMINS),
    ),
}
TOP: tuple[tuple[Promise, tuple[Page, ...]], ...] = (
    (_("Rank"), (Page("rank", _("Rank"), RANKERS, also=("my_rankings",)),)),
    (_("Prompts"), SECTIONS["prompts"]),
    (_("Datasets"), (Page("datasets", _("Datasets"), READERS),)),
    (_("Runs"), SECTIONS["runs"]),
    (_("Checkpoints"), (Page("checkpoints", _("Checkpoints"), READERS),)),
    (_("Quality"), SECTIONS["quality"]),
    (_("Members"), (Page("project_members", _("Members"), ADMINS),)),
    (_("Settings"), SECTIONS["settings"]),
)


class Tab(NamedTuple):
    label: Promise
    url: str
    is_current: bool


@register.simple_tag(takes_context=True)
def project_tabs(context: Context) -> list[Tab]:
    """The project's sections; one is current on each of its pages. It leads to its first page that this person may open."""
    request = context.get("request")
    tabs = []
    for label, pages in TOP:
        inside = _open_to(request, pages)
        if inside:
            tabs.append(Tab(label, inside[0][1], _current(request, inside) is not None))
    return tabs


@register.simple_tag(takes_context=True)
def section_tabs(context: Context, group: str) -> list[Tab]:
    """The pages of one section."""
    request = context.get("request")
    inside = _open_to(request, SECTIONS[group])
    current = _current(request, inside)
    return [Tab(page.label, url, page is current) for page, url in inside]


def _open_to(request: Any, pages: tuple[Page, ...]) -> list[tuple[Page, str]]:
    """The pages that exist and that the request's member may open, with their addresses."""
    member: Membership | None = getattr(request, "membership", None)
    found = []
    for page in pages:
        if member is not None and getattr(member, page.audience):
            try:
                found.append((page, reverse(page.url_name, args=[member.project.slug])))
            except NoReverseMatch:
                continue
    return found


def _current(request: Any, inside: list[tuple[Page, str]]) -> Page | None:
    """The page that the request is for or lies below: the longest address wins, /quality/flags over /quality."""
    match = request.resolver_match
    name = match.url_name if match else ""
    best: tuple[int, Page] | None = None
    for page, url in inside:
        below = request.path == url or request.path.startswith(url + "/")
        if (below or name in page.also) and (best is None or len(url) > best[0]):
            best = (len(url), page)
    return best[1] if best else None
