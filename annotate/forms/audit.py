"""Which entries of the audit log are looked for."""

from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import AuditEvent, Project, Ranking, User

RANKINGS = "ranking."
KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "rankings": (gettext_lazy("Rankings"), (RANKINGS,)),
    "tasks": (gettext_lazy("Tasks, flags and known orders"), ("task.", "tasks.", "known.")),
    "people": (gettext_lazy("People, links and tokens"), ("member.", "invitation.", "token.")),
    "settings": (gettext_lazy("Settings and webhooks"), ("settings.", "project.", "webhook.")),
    "data": (gettext_lazy("Imports, datasets and ideal answers"), ("import.", "dataset.", "demonstration.")),
    "models": (
        gettext_lazy("Runs, pipelines and checkpoints"),
        ("run.", "pipeline.", "trigger.", "checkpoint."),
    ),
}
TARGETS = {
    "task": gettext_lazy("Task"),
    "user": gettext_lazy("Person"),
    "dataset": gettext_lazy("Dataset"),
    "import": gettext_lazy("Import"),
    "run": gettext_lazy("Run"),
    "pipeline": gettext_lazy("Pipeline"),
    "pipeline_run": gettext_lazy("Run of a pipeline"),
    "checkpoint": gettext_lazy("Checkpoint"),
    "ranking": gettext_lazy("Ranking"),
    "demonstration": gettext_lazy("Ideal answer"),
    "invitation": gettext_lazy("Link"),
    "token": gettext_lazy("Token"),
    "webhook": gettext_lazy("Webhook"),
}


class AuditForm(forms.Form):
    person = forms.CharField(required=False, max_length=150, label=gettext_lazy("Who"))
    kind = forms.ChoiceField(
        required=False,
        choices=[("", gettext_lazy("Everything")), *((key, label) for key, (label, _verbs) in KINDS.items())],
        label=gettext_lazy("What"),
    )
    target = forms.ChoiceField(
        required=False,
        choices=[("", gettext_lazy("Anything")), *TARGETS.items()],
        label=gettext_lazy("Done to"),
    )
    which = forms.CharField(required=False, max_length=150, label=gettext_lazy("Number or name"))
    since = forms.DateField(required=False, label=gettext_lazy("From"), widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, label=gettext_lazy("To"), widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project

    def clean_person(self) -> User | None:
        return self._find_user(self.cleaned_data["person"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and since > until:
            self.add_error("until", _("This is before the first day."))
        kind, which = cleaned.get("target"), cleaned.get("which")
        if kind == "user" and which:
            try:
                found = self._find_user(which)
                cleaned["which"] = str(found.pk) if found else ""
            except ValidationError as error:
                self.add_error("which", error)
        elif kind and not (which and which.isascii() and which.isdigit()):
            self.add_error("which", _("Give its number."))
        return cleaned

    def _find_user(self, name: str) -> User | None:
        if not name:
            return None
        user = User.objects.filter(username=name).first()
        # Whoever never had to do with this project is not told apart from nobody.
        known = user and (
            self.project.memberships.filter(user=user).exists()
            or AuditEvent.objects.filter(project=self.project, actor=user).exists()
        )
        if not known:
            raise ValidationError(_("Nobody of this name has been in the project."))
        return user

    def entries(self) -> QuerySet[AuditEvent]:
        """What was looked for, the latest first."""
        wanted = self.cleaned_data
        entries = AuditEvent.objects.filter(project=self.project).select_related("actor").order_by("-at", "-pk")
        if wanted["person"]:
            entries = entries.filter(actor=wanted["person"])
        if wanted["kind"]:
            _label, verbs = KINDS[wanted["kind"]]
            some = Q()
            for verb in verbs:
                some |= Q(verb__startswith=verb)
            entries = entries.filter(some)
            if RANKINGS not in verbs:
                # Said in full, so that the index without rankings serves.
                entries = entries.exclude(verb__startswith=RANKINGS)
        if wanted["target"]:
            entries = entries.filter(target__in=self._targets(wanted["target"], wanted["which"]))
        if wanted["since"]:
            entries = entries.filter(at__gte=_midnight(wanted["since"]))
        # Nothing is later than the last day there is, and no day comes after it.
        if wanted["until"] and wanted["until"] < date.max:
            entries = entries.filter(at__lt=_midnight(wanted["until"] + timedelta(days=1)))
        return entries

    def _targets(self, kind: str, which: str) -> list[str]:
        targets = [f"{kind}:{which}"]
        if kind == "task":
            rankings = Ranking.objects.filter(project=self.project, task_id=int(which[:18])).values_list(
                "pk", flat=True
            )
            targets += [f"ranking:{pk}" for pk in rankings]
        return targets


def _midnight(day: Any) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
