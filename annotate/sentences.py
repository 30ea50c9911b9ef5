"""The audit log's entries in plain words."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from annotate.forms.projects import LABELS
from annotate.models import AuditEvent, Flag, Membership, Project, RankingTask, User
from annotate.numbers import grouped

LONG = 60
SENTENCES: dict[str, Any] = {
    "ranking.submitted": gettext_lazy("%(actor)s ranked a task."),
    "ranking.taken_back": gettext_lazy("%(actor)s took a ranking back."),
    "ranking.decided": gettext_lazy("%(actor)s decided a task that people disagreed about."),
    "task.flagged": gettext_lazy("%(actor)s flagged a task: %(reason)s."),
    "task.reopened": gettext_lazy("%(actor)s put a task back into the queue."),
    "task.closed": gettext_lazy("%(actor)s closed a task."),
    "tasks.priority_changed": ngettext_lazy(
        "%(actor)s changed the priority of %(tasks)s task.",
        "%(actor)s changed the priority of %(tasks)s tasks.",
        "tasks",
    ),
    "tasks.overlap_changed": ngettext_lazy(
        "%(actor)s brought %(tasks)s task to the number of people in the settings.",
        "%(actor)s brought %(tasks)s tasks to the number of people in the settings.",
        "tasks",
    ),
    "known.added": gettext_lazy("%(actor)s gave a task a known order (%(purpose)s)."),
    "known.changed": gettext_lazy("%(actor)s changed the known order of a task."),
    "known.removed": gettext_lazy("%(actor)s made a task with a known order an ordinary one."),
    "project.created": gettext_lazy("%(actor)s made the project."),
    "member.added": gettext_lazy("%(actor)s added %(person)s as %(role)s."),
    "member.joined": gettext_lazy("%(actor)s joined by a link as %(role)s."),
    "member.role_changed": gettext_lazy("%(actor)s changed %(person)s from %(before)s to %(after)s."),
    "member.removed": gettext_lazy("%(actor)s removed %(person)s."),
    "member.paused": gettext_lazy("%(actor)s paused %(person)s: %(reason)s."),
    "member.resumed": gettext_lazy("%(actor)s let %(person)s rank again."),
    "member.qualified": gettext_lazy("%(person)s passed practice, says %(actor)s."),
    "invitation.created": gettext_lazy("%(actor)s made a link (role: %(role)s; people: %(max_uses)s; days: %(days)s)."),
    "invitation.revoked": gettext_lazy("%(actor)s revoked a link."),
    "token.created": gettext_lazy("%(actor)s made the token “%(name)s” for scripts."),
    "token.revoked": gettext_lazy("%(actor)s revoked the token “%(name)s”."),
    "import.started": gettext_lazy("%(actor)s imported “%(file)s”."),
    "import.cancelled": gettext_lazy("%(actor)s cancelled the import of “%(file)s”."),
    "dataset.started": gettext_lazy("%(actor)s froze dataset %(number)s."),
    "dataset.made": gettext_lazy("A run that %(actor)s started made dataset %(number)s."),
    "dataset.published": gettext_lazy("%(actor)s sent dataset %(number)s to “%(repository)s” on a hub."),
    "dataset.cancelled": gettext_lazy("%(actor)s cancelled dataset %(number)s."),
    "dataset.tagged": gettext_lazy("%(actor)s gave dataset %(number)s the tag “%(tag)s”."),
    "dataset.untagged": gettext_lazy("%(actor)s took the tag “%(tag)s” off dataset %(number)s."),
    "dataset.noted": gettext_lazy("%(actor)s changed the note of dataset %(number)s."),
    "demonstration.written": gettext_lazy("%(actor)s wrote an ideal answer."),
    "demonstration.withdrawn": gettext_lazy("%(actor)s withdrew an ideal answer."),
    "run.started": gettext_lazy("%(actor)s started run %(number)s (%(method)s)."),
    "run.cancelled": gettext_lazy("%(actor)s cancelled run %(number)s."),
    "pipeline.added": gettext_lazy("%(actor)s added the pipeline “%(name)s”."),
    "pipeline.changed": gettext_lazy("%(actor)s changed the pipeline “%(name)s”."),
    "pipeline.archived": gettext_lazy("%(actor)s archived the pipeline “%(name)s”."),
    "pipeline.restored": gettext_lazy("%(actor)s brought the pipeline “%(name)s” back."),
    "pipeline.started": gettext_lazy("%(actor)s started the pipeline “%(name)s”."),
    "pipeline.cancelled": gettext_lazy("%(actor)s cancelled a run of the pipeline “%(name)s”."),
    "pipeline.resumed": gettext_lazy("%(actor)s resumed a run of the pipeline “%(name)s”."),
    "trigger.added": gettext_lazy("%(actor)s added a trigger (%(when)s) to the pipeline “%(name)s”."),
    "trigger.paused": gettext_lazy("%(actor)s paused a trigger (%(when)s) of the pipeline “%(name)s”."),
    "trigger.resumed": gettext_lazy("%(actor)s let a trigger (%(when)s) of the pipeline “%(name)s” work again."),
    "trigger.deleted": gettext_lazy("%(actor)s deleted a trigger (%(when)s) of the pipeline “%(name)s”."),
    "webhook.added": gettext_lazy("%(actor)s added a webhook to %(host)s."),
    "webhook.changed": gettext_lazy("%(actor)s changed the webhook to %(host)s."),
    "webhook.paused": gettext_lazy("%(actor)s paused the webhook to %(host)s."),
    "webhook.resumed": gettext_lazy("%(actor)s let the webhook to %(host)s be told again."),
    "webhook.removed": gettext_lazy("%(actor)s removed the webhook to %(host)s."),
    "checkpoint.added": gettext_lazy("%(actor)s added the checkpoint “%(name)s”."),
    "checkpoint.promoted": gettext_lazy("%(actor)s promoted the checkpoint “%(name)s”."),
}
# Codes in an entry's details, said as the pages say them.
CHOICES: dict[str, Mapping[Any, Any]] = {
    "role": dict(Membership.Role.choices),
    "before": dict(Membership.Role.choices),
    "after": dict(Membership.Role.choices),
    "purpose": dict(RankingTask.Purpose.choices),
    "reason": {**dict(Flag.Reason.choices), **dict(Membership.PauseReason.choices)},
}


class _Words(dict[str, Any]):
    """An older entry may lack what a sentence names."""

    def __missing__(self, key: str) -> str:
        return "…"


def people_in(events: Iterable[AuditEvent]) -> dict[str, str]:
    """{target: user name} of the people to whom something was done."""
    targets = {event.target for event in events if event.target.startswith("user:")}
    names = User.objects.filter(pk__in=[target.partition(":")[2] for target in targets]).values_list("pk", "username")
    return {f"user:{pk}": name for pk, name in names}


def say(event: AuditEvent, people: Mapping[str, str]) -> str:
    """What happened, as one sentence. What was done by nobody in particular was done by Podium."""
    actor = event.actor.username if event.actor else "Podium"
    details = {
        key: CHOICES[key].get(value, value) if key in CHOICES and isinstance(value, str) else value
        for key, value in event.details.items()
    }
    if event.verb == "settings.changed":
        return _say_changes(actor, event.details.get("changes", {}))
    sentence = SENTENCES.get(event.verb)
    if sentence is None:
        return _("%(actor)s: %(verb)s") % {"actor": actor, "verb": event.verb}
    number = event.target.partition(":")[2]
    words = _Words(details, actor=actor, person=people.get(event.target, "…"), number=number)
    return str(sentence % words)


def _say_changes(actor: str, changes: dict[str, Any]) -> str:
    said = [_say_change(name, change) for name, change in changes.items()]
    return _("%(actor)s changed %(changes)s.") % {"actor": actor, "changes": "; ".join(said)}


def _say_change(name: str, change: Any) -> str:
    label = _("“%(setting)s”") % {"setting": LABELS.get(name, name)}
    if not isinstance(change, dict) or not {"before", "after"} <= change.keys():
        return label
    before, after = _value(name, change["before"]), _value(name, change["after"])
    if max(len(before), len(after)) > LONG:
        return label
    return _("%(setting)s from %(before)s to %(after)s") % {"setting": label, "before": before, "after": after}


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if value is None or value in ("", []):
        return _("nothing")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name == "state":
        return str(dict(Project.State.choices).get(value, value))
    return grouped(value) if isinstance(value, int) else f"“{value}”" if isinstance(value, str) else str(value)
