"""Ideal answers, written or edited by people while they rank."""

from django.db import transaction
from django.utils import timezone

from annotate.models import Assignment, Completion, Demonstration, Membership, Source, completion_hash, record
from annotate.reasoning import split_reasoning

from .rankings import letters

PEOPLE = "people"


@transaction.atomic
def write_demonstration(
    *, membership: Membership, assignment: Assignment, text: str, edited_from: str = ""
) -> Demonstration:
    """Store an ideal answer to the prompt of one's assignment. The same text for the same prompt is stored once.

    `edited_from` is the letter of the shown completion that it started from. Raises ValueError when the text holds nothing but
    reasoning.
    """
    reasoning, answer = split_reasoning(text)
    if not answer:
        raise ValueError("the answer is empty")
    by_letter = dict(zip(letters(len(assignment.shown_order)), assignment.shown_order, strict=True))
    source, _ = Source.objects.get_or_create(
        project=membership.project, name=PEOPLE, defaults={"kind": Source.Kind.PERSON}
    )
    completion, _ = Completion.objects.get_or_create(
        prompt_id=assignment.task.prompt_id,
        source=source,
        content_hash=completion_hash(answer, reasoning),
        defaults={"text": answer, "reasoning": reasoning},
    )
    demonstration, created = Demonstration.objects.get_or_create(
        completion=completion,
        defaults={
            "project": membership.project,
            "author": membership.user,
            "edited_from_id": by_letter.get(edited_from),
        },
    )
    if demonstration.withdrawn_at:
        demonstration.withdrawn_at = None
        demonstration.save(update_fields=["withdrawn_at"])
        created = True
    if created:
        record(
            membership.user,
            "demonstration.written",
            f"demonstration:{demonstration.pk}",
            project=membership.project,
        )
    return demonstration


@transaction.atomic
def withdraw_demonstration(*, membership: Membership, demonstration: Demonstration) -> None:
    """Take an ideal answer out of all datasets to come; those that exist keep it. Twice is once."""
    current = Demonstration.objects.filter(pk=demonstration.pk, withdrawn_at=None)
    if current.update(withdrawn_at=timezone.now()):
        target = f"demonstration:{demonstration.pk}"
        record(membership.user, "demonstration.withdrawn", target, project=membership.project)
