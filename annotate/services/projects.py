"""Projects, their settings and their members."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Membership, Project, User, record
from annotate.numbers import grouped

from .assignments import Refused, lock_membership, release_person
from .invitations import revoke_all_of

Role = Membership.Role
COUNT_BOUND = 10_000


@transaction.atomic
def create_project(*, project: Project, creator: User) -> Project:
    """Store a new project; its creator becomes its first admin."""
    project.created_by = creator
    project.save()
    Membership.objects.create(project=project, user=creator, role=Role.ADMIN)
    record(creator, "project.created", f"project:{project.pk}", project=project, name=project.name)
    return project


@transaction.atomic
def change_settings(*, membership: Membership, project: Project, names: Iterable[str]) -> None:
    """Save these fields of an edited project; the log keeps each that differs, as it was and as it is."""
    stored = Project.objects.select_for_update().values(*names).get(pk=project.pk)
    changes = {
        name: {"before": before, "after": getattr(project, name)}
        for name, before in stored.items()
        if before != getattr(project, name)
    }
    if changes:
        project.save(update_fields=list(changes))
        record(membership.user, "settings.changed", f"project:{project.pk}", project=project, changes=changes)


@transaction.atomic
def add_member(*, membership: Membership, user: User, role: str) -> Membership:
    """Raises Refused when the person is a member already."""
    added, created = Membership.objects.select_for_update().get_or_create(
        project=membership.project, user=user, defaults={"role": role}
    )
    if added.left_at:
        added.role, added.left_at = role, None
        added.save(update_fields=["role", "left_at"])
    elif not created:
        raise Refused("already_member", _("%(name)s is a member already.") % {"name": user.username})
    record(membership.user, "member.added", f"user:{user.pk}", project=membership.project, role=role)
    return added


@transaction.atomic
def change_role(*, membership: Membership, member: Membership, role: str) -> None:
    """Raises Refused when the project would be left without an admin, or the member was removed meanwhile."""
    if member.role == role:
        return
    _keep_an_admin(member)
    lock_membership(member)
    before, member.role = member.role, role
    member.save(update_fields=["role"])
    if not member.may_rank:
        release_person(membership=member)
    if not member.is_admin:
        revoke_all_of(membership=membership, member=member)
    record(
        membership.user,
        "member.role_changed",
        f"user:{member.user_id}",
        project=membership.project,
        before=before,
        after=role,
    )


@transaction.atomic
def remove_member(*, membership: Membership, member: Membership) -> None:
    """Their rankings stay; what they hold is given back. Raises Refused for the last admin, and when they were removed before."""
    _keep_an_admin(member)
    release_person(membership=member)
    revoke_all_of(membership=membership, member=member)
    record(
        membership.user,
        "member.removed",
        f"user:{member.user_id}",
        project=membership.project,
        role=member.role,
        pseudonym=member.pseudonym,
    )
    member.left_at = timezone.now()
    member.save(update_fields=["left_at"])


def _keep_an_admin(member: Membership) -> None:
    # All of them are locked, in one order: two admins who remove each other at once are not both obeyed.
    admins = Membership.objects.present().filter(project_id=member.project_id, role=Role.ADMIN).order_by("pk")
    if list(admins.select_for_update().values_list("pk", flat=True)) == [member.pk]:
        raise Refused("last_admin", _("A project needs an admin. Make somebody else admin first."))


@dataclass(frozen=True)
class Count:
    """A count that stops at COUNT_BOUND, so that a page costs the same at any size."""

    value: int

    def __str__(self) -> str:
        return f"{grouped(COUNT_BOUND)}+" if self.value > COUNT_BOUND else grouped(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)


def bounded_count(rows: QuerySet[Any]) -> Count:
    return Count(rows[: COUNT_BOUND + 1].count())


BOUNDED_COUNTS = {
    "prompts": "FROM annotate_prompt WHERE project_id = %(project)s",
    # Free, by the queue's own index, or in somebody's hands and not to be given to more.
    "open_tasks": """FROM (
        SELECT id FROM annotate_rankingtask
        WHERE project_id = %(project)s AND state = 'open' AND purpose = 'ranking' AND overlap > leased + submitted
        UNION ALL SELECT DISTINCT t.id FROM annotate_assignment a JOIN annotate_rankingtask t ON t.id = a.task_id
        WHERE a.project_id = %(project)s AND a.state = 'leased' AND t.state = 'open' AND t.purpose = 'ranking'
            AND t.overlap = t.leased + t.submitted) waiting""",
    "tasks": "FROM annotate_rankingtask WHERE project_id = %(project)s AND purpose = 'ranking'",
    "rankings": "FROM annotate_ranking WHERE project_id = %(project)s AND is_current",
    "demonstrations": "FROM annotate_demonstration WHERE project_id = %(project)s AND withdrawn_at IS NULL",
    "flags": "FROM annotate_flag WHERE project_id = %(project)s AND settled_at IS NULL",
    "members": "FROM annotate_membership WHERE project_id = %(project)s AND left_at IS NULL",
}


def count_project(project: Project) -> dict[str, Count]:
    """The numbers of a project's home, each bounded, in one statement."""
    columns = ", ".join(
        f"(SELECT count(*) FROM (SELECT 1 {source} LIMIT {COUNT_BOUND + 1}) bounded)"  # noqa: S608  # constants of this file
        for source in BOUNDED_COUNTS.values()
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns}", {"project": project.pk})
        return dict(zip(BOUNDED_COUNTS, map(Count, cursor.fetchone()), strict=True))
