"""Webhooks: which there are, what they are told, and the log of what was delivered."""

import json
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.webhooks import WebhookForm
from annotate.models import Delivery, Webhook
from annotate.services.assignments import Refused
from annotate.services.webhooks import (
    add_webhook,
    change_webhook,
    message_of,
    pause_webhook,
    remove_webhook,
    resend,
    resume_webhook,
    rotate_secret,
    send_test,
    standing,
)

PAGE = 25
# What is tried later than that is no reason to look every two seconds.
SOON = timedelta(minutes=1)
State = Delivery.State


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@member_required(Role.ADMIN)
def webhooks(request: ProjectRequest) -> HttpResponse:
    """The list; POST adds one and answers with the list, its secret on it: it is shown this once."""
    project = request.membership.project
    form = WebhookForm(request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {"project": project, "form": form}
    if form.is_valid():
        try:
            context["made"], context["secret"] = add_webhook(project=project, user=request.user, **form.cleaned_data)
            context["form"] = WebhookForm()
        except (ValidationError, Refused) as error:
            add_errors(form, error)
    context["webhooks"] = standing(project)
    return render(request, "annotate/webhooks.html", context, status=422 if form.errors else 200)


def add_errors(form: WebhookForm, error: ValidationError | Refused) -> None:
    form.add_error(None, error if isinstance(error, ValidationError) else error.message)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@member_required(Role.ADMIN)
def webhook(request: ProjectRequest, pk: int) -> HttpResponse:
    """One webhook with its log; POST changes it."""
    found = get_object_or_404(standing(request.membership.project), pk=pk)
    if request.method != "POST":
        return show(request, found)
    form = WebhookForm(request.POST)
    if form.is_valid():
        try:
            change_webhook(webhook=found, user=request.user, **form.cleaned_data)
        except (ValidationError, Refused) as error:
            add_errors(form, error)
        else:
            messages.success(request, _("The webhook is changed."))
            return redirect("webhook", request.membership.project.slug, found.pk)
    return show(request, found, form=form)


@require_POST
@never_cache
@member_required(Role.ADMIN)
def webhook_act(request: ProjectRequest, pk: int) -> HttpResponse:
    """POST `action`: pause, resume, test, rotate or remove. A new secret is on the answer, this once."""
    project, action = request.membership.project, request.POST.get("action")
    found = get_object_or_404(standing(project), pk=pk)
    try:
        if action == "rotate":
            return show(request, found, secret=rotate_secret(webhook=found, user=request.user))
        if action == "remove":
            remove_webhook(webhook=found, user=request.user)
            messages.success(request, _("The webhook is removed: it is told nothing any more."))
            return redirect("webhooks", project.slug)
        if action == "pause":
            pause_webhook(webhook=found, user=request.user)
            messages.success(request, _("The webhook is paused."))
        elif action == "resume":
            resume_webhook(webhook=found, user=request.user)
            messages.success(request, _("The webhook is told what happens again."))
        elif action == "test":
            send_test(webhook=found)
            messages.success(request, _("A test is on its way; the log below says what comes of it."))
        else:
            messages.error(request, _("There is no such action."))
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect("webhook", project.slug, found.pk)


@require_POST
@member_required(Role.ADMIN)
def delivery_resend(request: ProjectRequest, pk: int) -> HttpResponse:
    project = request.membership.project
    found = get_object_or_404(deliveries_of(project), pk=pk)
    try:
        resend(delivery=found)
        messages.success(request, _("It is sent again."))
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect("webhook", project.slug, found.webhook_id)


def deliveries_of(project: Any) -> Any:
    """Of the project's webhooks that were not removed."""
    rows = Delivery.objects.filter(webhook__project=project, webhook__removed_at=None)
    return rows.select_related("webhook__project", "event")


def show(
    request: ProjectRequest, webhook: Webhook, *, form: WebhookForm | None = None, secret: str = ""
) -> HttpResponse:
    """The webhook's page, or its log alone when that is asked for anew; a `secret` is on it this once."""
    project = request.membership.project
    before = request.GET.get("before", "")
    if before and not (before.isascii() and before.isdecimal() and len(before) < 19):
        raise Http404
    rows = deliveries_of(project).filter(webhook=webhook).order_by("-pk")
    found = list((rows.filter(pk__lt=int(before)) if before else rows)[: PAGE + 1])
    shown = found[:PAGE]
    soon = timezone.now() + SOON
    context = {
        "project": project,
        "webhook": webhook,
        "form": form or WebhookForm({name: getattr(webhook, name) for name in ("url", "events", "note")}),
        "secret": secret,
        "deliveries": [describe(delivery) for delivery in shown],
        "older": shown[-1].pk if len(found) > PAGE else None,
        "before": before,
        "is_live": not before
        and webhook.paused_at is None
        and any(one.state == State.WAITING and one.next_at < soon for one in shown),
    }
    template = "annotate/webhook.html#log" if request.htmx else "annotate/webhook.html"
    return render(request, template, context, status=422 if form and form.errors else 200)


BADGES = {State.WAITING: "queued", State.DELIVERED: "succeeded", State.GIVEN_UP: "failed"}


def describe(delivery: Delivery) -> dict[str, Any]:
    event = delivery.event
    is_flying = delivery.state == State.WAITING and delivery.attempts > 0 and delivery.seconds is None
    return {
        "row": delivery,
        "kind": event.kind,
        "at": event.created_at,
        "badge": "running" if is_flying else BADGES[State(delivery.state)],
        "label": _("Being sent") if is_flying else State(delivery.state).label,
        "is_flying": is_flying,
        "is_due": delivery.next_at <= timezone.now(),
        "waits": delivery.state == State.WAITING and not is_flying,
        "payload": json.dumps(message_of(event), indent=2, ensure_ascii=False),
    }
