"""Trying a checkpoint by the REST API."""

from typing import Literal

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from ninja import Router, Schema, Status
from pydantic import Field

from annotate.api.base import (
    ERRORS,
    ApiRequest,
    Asked,
    Problem,
    ProblemOut,
    Role,
    Scope,
    Token,
    idempotent,
    members,
    membership_of,
)
from training.models import Reply
from training.recipes.arguments import InvalidArguments
from training.services.replies import ask, cancel_reply

router = Router(tags=["training"], auth=Token(Scope.READ))
ASKERS = (Role.RESEARCHER, Role.ADMIN)
TRAIN = Token(Scope.TRAIN)


class MessageIn(Asked):
    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class ReplyIn(Asked):
    messages: list[MessageIn] = Field(min_length=1, max_length=500, description="They end with one of the user")
    sampling: dict[str, float] = Field(
        {}, description="temperature, top_p, max_new_tokens and seed, as far as they are set"
    )


class ReplyOut(Schema):
    id: int
    checkpoint: int
    state: str
    text: str
    reasoning: str = Field(description="What the model thought before, between <think> and </think>")
    tokens: int
    sampling: dict[str, float]
    error: str


def _out(reply: Reply) -> ReplyOut:
    names = ("id", "state", "text", "reasoning", "tokens", "sampling", "error")
    return ReplyOut(checkpoint=reply.checkpoint_id, **{name: getattr(reply, name) for name in names})


def _reply(request: ApiRequest, slug: str, id: int) -> Reply:
    return get_object_or_404(membership_of(request, slug, *ASKERS).project.replies, pk=id)


@router.post(
    "/projects/{slug}/checkpoints/{int:id}/replies",
    response={201: ReplyOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="ask_checkpoint",
    summary="Ask a language model; its reply comes later",
)
@idempotent(members(*ASKERS))
def create_reply(request: ApiRequest, slug: str, id: int, body: ReplyIn) -> Status[ReplyOut]:
    project = membership_of(request, slug, *ASKERS).project
    checkpoint = get_object_or_404(project.checkpoints.select_related("parent", "project"), pk=id)
    whole = {name: int(value) if value.is_integer() else value for name, value in body.sampling.items()}
    try:
        reply = ask(
            checkpoint=checkpoint,
            messages=[one.model_dump() for one in body.messages],
            sampling=whole,
            user=request.user,
        )
    except InvalidArguments as error:
        errors = {name: [text] for name, text in error.errors.items()}
        raise Problem(422, _("Some fields are wrong."), errors) from error
    return Status(201, _out(reply))


@router.get(
    "/projects/{slug}/replies/{int:id}",
    response={200: ReplyOut, ERRORS: ProblemOut},
    operation_id="get_reply",
    summary="A reply, once its state is succeeded",
)
def get_reply(request: ApiRequest, slug: str, id: int) -> ReplyOut:
    return _out(_reply(request, slug, id))


@router.post(
    "/projects/{slug}/replies/{int:id}/cancel",
    response={200: ReplyOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="cancel_reply",
    summary="Stop a reply; one that has ended stays as it is",
)
def cancel(request: ApiRequest, slug: str, id: int) -> ReplyOut:
    reply = _reply(request, slug, id)
    cancel_reply(reply=reply)
    return _out(reply)
