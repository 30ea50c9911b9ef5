"""Webhooks by the REST API: kept, tried, and what became of each delivery."""

from datetime import datetime
from typing import Annotated, Any

from django.db import transaction
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema, Status
from pydantic import Field

from annotate.addresses import LONGEST
from annotate.models import Delivery, Project, Webhook
from annotate.services.webhooks import (
    Event,
    add_webhook,
    change_webhook,
    pause_webhook,
    remove_webhook,
    resend,
    resume_webhook,
    rotate_secret,
    send_test,
    standing,
)

from .base import (
    ERRORS,
    ApiRequest,
    Asked,
    Page,
    PageQuery,
    ProblemOut,
    Role,
    Scope,
    Token,
    idempotent,
    members,
    membership_of,
    page_of,
)

router = Router(tags=["webhooks"], auth=Token(Scope.READ))
WRITE = Token(Scope.WRITE)


class WebhookIn(Asked):
    url: str = Field(max_length=LONGEST, description="https://…; docs/webhooks.md says which addresses are taken")
    events: list[Event] = Field(min_length=1, max_length=20)
    note: str = Field("", max_length=120)


class WebhookChange(Asked):
    url: str | None = Field(None, max_length=LONGEST)
    events: list[Event] | None = Field(None, min_length=1, max_length=20)
    note: str | None = Field(None, max_length=120)
    paused: bool | None = Field(None, description="Paused, it is told nothing, and what was on its way waits")


class WebhookOut(Schema):
    id: int
    url: str
    events: list[str]
    note: str
    paused_at: datetime | None
    failing_since: datetime | None = Field(description="When the first of the latest failures in a row was")
    created_by: str
    created_at: datetime


class MadeWebhook(WebhookOut):
    secret: str = Field(description="Signs what is sent. It is in this answer alone")


class SecretOut(Schema):
    secret: str = Field(description="Signs what is sent from now on. It is in this answer alone")


class DeliveryOut(Schema):
    id: int
    webhook: int
    event: str = Field(description="The header `webhook-id`, the same at every try")
    kind: str
    payload: dict[str, Any] = Field(description="`data` of the message")
    state: str
    attempts: int
    status: int | None = Field(description="HTTP status of the latest answer")
    answer: str = Field(description="The beginning of it")
    error: str = Field(description="Why the latest try does not count, where its status does not say so")
    seconds: float | None = Field(description="How long the latest try took")
    created_at: datetime
    tried_at: datetime | None
    next_at: datetime | None = Field(description="When it is tried next; null where it is not")


def _webhook(row: Webhook) -> dict[str, Any]:
    names = ("url", "events", "note", "paused_at", "failing_since", "created_at")
    return {"id": row.pk, "created_by": row.created_by.username, **{name: getattr(row, name) for name in names}}


def _delivery(row: Delivery) -> DeliveryOut:
    names = ("state", "attempts", "status", "answer", "error", "seconds", "tried_at")
    return DeliveryOut(
        id=row.pk,
        webhook=row.webhook_id,
        event=str(row.event.uid),
        kind=row.event.kind,
        payload=row.event.payload,
        created_at=row.event.created_at,
        next_at=row.next_at if row.state == Delivery.State.WAITING else None,
        **{name: getattr(row, name) for name in names},
    )


def _project(request: ApiRequest, slug: str) -> Project:
    return membership_of(request, slug, Role.ADMIN).project


def _found(request: ApiRequest, slug: str, id: int) -> Webhook:
    found: Webhook = get_object_or_404(standing(_project(request, slug)), pk=id)
    return found


@router.get(
    "/projects/{slug}/webhooks",
    response={200: Page[WebhookOut], ERRORS: ProblemOut},
    operation_id="list_webhooks",
    summary="Webhooks, newest first",
)
def list_webhooks(request: ApiRequest, slug: str, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    page = page_of(standing(_project(request, slug)), query)
    return {**page, "items": [_webhook(row) for row in page["items"]]}


@router.post(
    "/projects/{slug}/webhooks",
    response={201: MadeWebhook, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="create_webhook",
    summary="Add a webhook; the same again within a minute is one, so that a lost answer can be asked for again",
)
def create(request: ApiRequest, slug: str, body: WebhookIn) -> Status[MadeWebhook]:
    made, secret = add_webhook(project=_project(request, slug), user=request.user, **body.model_dump())
    return Status(201, MadeWebhook(secret=secret, **_webhook(made)))


@router.patch(
    "/projects/{slug}/webhooks/{int:id}",
    response={200: WebhookOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="change_webhook",
    summary="Change, pause or resume a webhook; what is left out stays",
)
def change(request: ApiRequest, slug: str, id: int, body: WebhookChange) -> dict[str, Any]:
    values = body.model_dump(exclude={"paused"})
    with transaction.atomic():
        row = change_webhook(webhook=_found(request, slug, id), user=request.user, **values)
        if body.paused is not None:
            row = (pause_webhook if body.paused else resume_webhook)(webhook=row, user=request.user)
    return _webhook(row)


@router.delete(
    "/projects/{slug}/webhooks/{int:id}",
    response={204: None, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="remove_webhook",
    summary="Remove a webhook",
)
def remove(request: ApiRequest, slug: str, id: int) -> Status[None]:
    remove_webhook(webhook=_found(request, slug, id), user=request.user)
    return Status(204, None)


@router.post(
    "/projects/{slug}/webhooks/{int:id}/secret",
    response={200: SecretOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="rotate_webhook_secret",
    summary="A new secret; the one before signs, too, for 24 hours",
)
def rotate(request: ApiRequest, slug: str, id: int) -> SecretOut:
    return SecretOut(secret=rotate_secret(webhook=_found(request, slug, id), user=request.user))


@router.get(
    "/projects/{slug}/webhooks/{int:id}/deliveries",
    response={200: Page[DeliveryOut], ERRORS: ProblemOut},
    operation_id="list_deliveries",
    summary="What a webhook was sent, newest first; kept for 30 days",
)
def list_deliveries(request: ApiRequest, slug: str, id: int, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    page = page_of(_found(request, slug, id).deliveries.select_related("event"), query)
    return {**page, "items": [_delivery(row) for row in page["items"]]}


@router.post(
    "/projects/{slug}/webhooks/{int:id}/test",
    response={201: DeliveryOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="test_webhook",
    summary="Send `webhook.test`; 409 while it is paused",
)
@idempotent(members(Role.ADMIN))
def test(request: ApiRequest, slug: str, id: int) -> Status[DeliveryOut]:
    return Status(201, _delivery(send_test(webhook=_found(request, slug, id))))


@router.post(
    "/projects/{slug}/deliveries/{int:id}/resend",
    response={200: DeliveryOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="resend_delivery",
    summary="Send it again, from the first try on; 409 while its webhook is paused",
)
def resend_one(request: ApiRequest, slug: str, id: int) -> DeliveryOut:
    rows = Delivery.objects.filter(webhook__in=standing(_project(request, slug))).select_related("webhook__project")
    return _delivery(resend(delivery=get_object_or_404(rows, pk=id)))
