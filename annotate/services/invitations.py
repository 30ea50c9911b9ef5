"""Links by which people join a project."""

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Invitation, Membership, Project, User, record

from .assignments import Refused

State = Invitation.State


class NotOpen(Refused):
    """There is no such link, or it is used up, expired or revoked: nobody is told which."""

    def __init__(self) -> None:
        super().__init__("not_open", _("This link does not work."), status=404)


def hash_token(token: str) -> str:
    """What `Invitation.token_hash` holds. A token has 256 random bits, so that one fast hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


@transaction.atomic
def create_invitation(
    *, membership: Membership, role: str, days: int, max_uses: int, note: str
) -> tuple[Invitation, str]:
    """The link's row and its token, which is stored nowhere."""
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        project=membership.project,
        role=role,
        token_hash=hash_token(token),
        note=note,
        max_uses=max_uses,
        created_by=membership.user,
        expires_at=timezone.now() + timedelta(days=days),
    )
    record(
        membership.user,
        "invitation.created",
        f"invitation:{invitation.pk}",
        project=membership.project,
        role=role,
        days=days,
        max_uses=max_uses,
        note=note,
    )
    return invitation, token


@transaction.atomic
def revoke_invitation(*, membership: Membership, invitation: Invitation) -> None:
    """From now on the link does not work; whoever has joined by it stays. Twice is once."""
    standing = Invitation.objects.filter(pk=invitation.pk, revoked_at=None)
    if standing.update(revoked_at=timezone.now()):
        record(membership.user, "invitation.revoked", f"invitation:{invitation.pk}", project=membership.project)


@transaction.atomic
def revoke_all_of(*, membership: Membership, member: Membership) -> None:
    """Revoke the links that `member` made and that still stand: whoever is no admin any more could come back by one."""
    standing = Invitation.objects.filter(project_id=member.project_id, created_by_id=member.user_id, revoked_at=None)
    for invitation in standing.filter(expires_at__gt=timezone.now(), uses__lt=F("max_uses")):
        revoke_invitation(membership=membership, invitation=invitation)


def find_invitation(token_hash: str) -> Invitation:
    """The link with this hash. Raises NotOpen unless people can join by it."""
    invitation = Invitation.objects.select_related("project").filter(token_hash=token_hash).first()
    return _open(invitation)


@transaction.atomic
def accept_invitation(*, user: User, token_hash: str) -> Membership:
    """Make `user` a member of the link's project.

    Raises NotOpen, and Refused for whoever is a member already, whose role a link never changes, or was removed, which a link
    never takes back.
    """
    locked = Invitation.objects.select_for_update(of=("self",)).select_related("project")
    invitation = _open(locked.filter(token_hash=token_hash).first())
    member, created = Membership.objects.get_or_create(
        project=invitation.project, user=user, defaults={"role": invitation.role}
    )
    if member.left_at:
        raise Refused("removed", _("You were removed from this project. Ask one of its admins to add you again."))
    if not created:
        raise Refused("already_member", _("You are a member already; your role stays as it is."))
    Invitation.objects.filter(pk=invitation.pk).update(uses=F("uses") + 1)
    record(
        user,
        "member.joined",
        f"user:{user.pk}",
        project=invitation.project,
        role=invitation.role,
        invitation=invitation.pk,
    )
    return member


def _open(invitation: Invitation | None) -> Invitation:
    if invitation is None or invitation.state != State.OPEN or invitation.project.state == Project.State.ARCHIVED:
        raise NotOpen
    return invitation
