"""What people call a dataset version: its note, and a tag that may be moved to another version."""

import re

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import DatasetVersion, Project, User, record

TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class TagTaken(ValidationError):
    """Another version has the tag, and nobody has said that it shall be moved."""

    def __init__(self, holder: DatasetVersion) -> None:
        super().__init__(
            {"tag": _("Version %(number)s has the tag “%(tag)s”.") % {"number": holder.number, "tag": holder.tag}}
        )
        self.holder = holder


def check_tag(tag: str) -> None:
    """ValidationError for a tag that could not stand in an address."""
    if not TAG.fullmatch(tag):
        raise ValidationError(
            {
                "tag": _(
                    "A tag has letters without accents, digits, “.”, “_” and “-”, begins with a letter or digit, and has at most 60."
                )
            }
        )


@transaction.atomic
def name_version(
    *, version: DatasetVersion, user: User | None, note: str | None = None, tag: str | None = None, moves: bool = False
) -> None:
    """Set its note, its tag, or both; "" takes away. A tag that another version has goes over only where `moves` says so.

    Raises TagTaken, and ValidationError for a tag that cannot be one or a note beyond 200 characters.
    """
    # Two who give the same tag at once wait for each other here.
    project = Project.objects.select_for_update(no_key=True).get(pk=version.project_id)
    version.refresh_from_db(fields=["note", "tag"])
    if note is not None and note != version.note:
        if len(note) > 200:
            raise ValidationError({"note": _("A note has at most 200 characters.")})
        version.note = note
        record(user, "dataset.noted", f"dataset:{version.number}", project=project, note=note)
    if tag is not None and tag != version.tag:
        _move_tag(project, version, user, tag, moves=moves)
    version.save(update_fields=["note", "tag"])


def _move_tag(project: Project, version: DatasetVersion, user: User | None, tag: str, *, moves: bool) -> None:
    target, before = f"dataset:{version.number}", version.tag
    version.tag = tag
    if not tag:
        record(user, "dataset.untagged", target, project=project, tag=before)
        return
    check_tag(tag)
    holder = project.dataset_versions.filter(tag=tag).first()
    if holder and not moves:
        raise TagTaken(holder)
    if holder:
        project.dataset_versions.filter(pk=holder.pk).update(tag="")
    record(user, "dataset.tagged", target, project=project, tag=tag, taken_from=holder.number if holder else None)
