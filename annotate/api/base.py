"""What all of the API has in common: tokens, pages by cursor, idempotency keys."""

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from functools import partial, wraps
from time import time
from typing import Annotated, Any, Generic, TypeVar

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, JsonResponse
from django.utils.translation import gettext as _
from ninja import Schema, Status
from ninja.security import HttpBearer
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, ValidationInfo, field_validator

from annotate.models import ApiToken, Membership, Project, StoredResponse, User
from annotate.services.datasets import EARLIEST, LATEST
from annotate.services.moments import Moments
from annotate.services.tokens import Use, use_token

from .errors import ERRORS, Problem, ProblemOut

__all__ = [
    "ERRORS",
    "ID_MAX",
    "LIMIT",
    "READERS",
    "ApiRequest",
    "Asked",
    "Item",
    "Moment",
    "Page",
    "PageQuery",
    "Problem",
    "ProblemOut",
    "Role",
    "Scope",
    "Token",
    "cursor_of",
    "idempotent",
    "members",
    "membership_of",
    "page_of",
    "projects_of",
    "read_cursor",
    "seconds_left",
]

Scope = ApiToken.Scope
Role = Membership.Role
Item = TypeVar("Item")
LIMIT = 200
READERS = (Role.RESEARCHER, Role.ADMIN)
ID_MAX = 2**63 - 1
# What only reads goes by what was found in the last moment (annotate.services.moments); what changes something asks each time.
READING = frozenset({"GET", "HEAD"})
_memberships: Moments[Membership] = Moments()


class ApiRequest(HttpRequest):
    """What an operation is given."""

    auth: ApiToken
    user: User
    use: Use


class Token(HttpBearer):
    """A token with this scope, in the header `Authorization: Bearer …`."""

    openapi_name = "token"

    def __init__(self, scope: ApiToken.Scope) -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> Any:
        kind, _space, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        return self.authenticate(request, token) if kind.lower() == "bearer" else None

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        use = use_token(token, trusting=request.method in READING)
        if use is None:
            return None
        found = use.token
        request.use = use  # type: ignore[attr-defined]  # for the headers that say how many are left
        if use.requests > settings.API_REQUESTS_PER_MINUTE:
            raise Problem(
                429,
                _("A token may send %(count)s requests a minute.") % {"count": settings.API_REQUESTS_PER_MINUTE},
                headers={"Retry-After": str(seconds_left())},
            )
        if self.scope not in found.scopes:
            raise Problem(403, _("This token has no permission “%(scope)s”.") % {"scope": self.scope})
        request.user = found.user
        return found


def seconds_left() -> int:
    """Until the minute ends that `ApiToken.requests` counts."""
    return 60 - int(time()) % 60


def membership_of(request: ApiRequest, slug: str, *roles: Membership.Role) -> Membership:
    """The token's owner in the project. No membership, or a token for another project: 404. Another role than `roles`: 403."""
    key = (request.auth.user_id, slug)
    membership = _memberships.get(key) if request.method in READING else None
    if membership is None and "\0" not in slug:
        rows = Membership.objects.present().select_related("project", "user")
        membership = rows.filter(project__slug=slug, user_id=request.auth.user_id).first()
        if membership:
            _memberships.keep(key, membership)
    if membership is None or request.auth.project_id not in (None, membership.project_id):
        raise Problem(404, _("There is no project “%(slug)s”, or you are not in it.") % {"slug": slug})
    if roles and membership.role not in roles:
        raise PermissionDenied
    return membership


def projects_of(request: ApiRequest) -> QuerySet[Project]:
    rows = Project.objects.of(request.user)
    return rows.filter(pk=request.auth.project_id) if request.auth.project_id else rows


class Asked(Schema):
    """What a request brings, in texts that Postgres can hold: without NUL and halves of surrogate pairs."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_what_cannot_be_stored(cls, value: Any) -> Any:
        left = [value]
        while left:
            one = left.pop()
            if isinstance(one, str) and ("\0" in one or any("\ud800" <= letter <= "\udfff" for letter in one)):
                raise ValueError("a text holds characters that cannot be stored")
            if isinstance(one, dict | list):
                left += [*one, *one.values()] if isinstance(one, dict) else one
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _take_json_at_its_word(cls, value: Any, info: ValidationInfo) -> Any:
        """A form and an address know texts alone; in JSON "1" is no number, and 0 is not false."""
        request = (info.context or {}).get("request")
        if request is None or request.method in READING or request.content_type != "application/json":
            return value
        annotation = cls.model_fields[info.field_name or ""].annotation
        if annotation in (bool, bool | None) and not isinstance(value, bool | None):
            raise ValueError("true or false is wanted, as JSON has it")
        if annotation in (int, float, int | None, float | None) and isinstance(value, str | bool):
            raise ValueError("a number is wanted, as JSON has it")
        return value


def _refuse_numbers(value: Any) -> Any:
    # Pydantic takes "1700000000" and even "0.5" for times since 1970.
    if isinstance(value, int | float) or (isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d", value)):
        raise ValueError("write the time as ISO 8601, with a time zone: 2026-11-21T09:00:00Z")
    return value


def _refuse_far_times(value: datetime) -> datetime:
    if not EARLIEST <= value < LATEST:
        raise ValueError("the time must be from 1970 to 9998")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_refuse_numbers), AfterValidator(_refuse_far_times)]


class Page(Schema, Generic[Item]):
    items: list[Item]
    next: str | None = Field(None, description="The `cursor` of the next page; null on the last one")


class PageQuery(Asked):
    cursor: str = Field(
        "", max_length=100, pattern="^[A-Za-z0-9_-]*$", description="`next` of the page before; empty for the first one"
    )
    limit: int = Field(50, ge=1, le=LIMIT)


def page_of(rows: QuerySet[Any], query: PageQuery, *, newest_first: bool = True) -> dict[str, Any]:
    """A page in the order of ids. Rows that come in meanwhile neither repeat nor hide any of those that follow."""
    if query.cursor:
        rows = rows.filter(**{"pk__lt" if newest_first else "pk__gt": read_cursor(query.cursor)})
    found = list(rows.order_by("-pk" if newest_first else "pk")[: query.limit + 1])
    items = found[: query.limit]
    return {"items": items, "next": cursor_of(items[-1].pk) if len(found) > query.limit else None}


def cursor_of(pk: int) -> str:
    return base64.urlsafe_b64encode(f"1:{pk}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    try:
        version, _sep, pk = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").partition(":")
        if version != "1" or not 0 <= int(pk) < 2**63:
            raise ValueError(cursor)
        return int(pk)
    except ValueError as error:
        raise Problem(
            422, _("The cursor is none of ours."), {"cursor": [_("Take it from “next” of the page before.")]}
        ) from error


Operation = Callable[..., Status[Any]]


def members(*roles: Membership.Role) -> Callable[..., Membership]:
    """For `idempotent`: whoever has one of these roles in the project."""

    def allow(request: ApiRequest, slug: str, **_others: Any) -> Membership:
        return membership_of(request, slug, *roles)

    return allow


def idempotent(
    allow: Callable[..., object],
) -> Callable[[Operation], Callable[..., Status[Any] | JsonResponse]]:
    """For an operation that makes something: a request with the header `Idempotency-Key` is done once, however often it comes.

    The operation and its stored answer are one transaction; a second request that comes meanwhile waits for it. `allow` takes what
    the operation takes and raises for whoever may not do it (any more): they are not given the stored answer either.
    """
    return partial(_done_once, allow)


def _done_once(allow: Callable[..., object], operation: Operation) -> Callable[..., Status[Any] | JsonResponse]:
    @wraps(operation)
    def once(request: ApiRequest, *args: Any, **kwargs: Any) -> Status[Any] | JsonResponse:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return operation(request, *args, **kwargs)
        if not re.fullmatch(r"[!-~]{1,100}", key):
            raise Problem(422, _("An Idempotency-Key has at most 100 characters, of ASCII and without spaces."))
        fingerprint = _fingerprint(request)
        with transaction.atomic():
            stored, _made = StoredResponse.objects.get_or_create(
                token=request.auth, key=key, defaults={"fingerprint": fingerprint}
            )
            if stored.fingerprint != fingerprint:
                raise Problem(422, _("This Idempotency-Key was used for another request."))
            if stored.status:
                allow(request, *args, **kwargs)
            else:
                made = operation(request, *args, **kwargs)
                stored.status, stored.body = made.status_code, made.value.model_dump(mode="json")
                stored.save(update_fields=["status", "body"])
            # As it was told the first time: what a schema resolves from a row, it cannot resolve from the stored answer.
            return JsonResponse(stored.body, status=stored.status)

    once.is_idempotent = True  # type: ignore[attr-defined]  # for the description
    return once


def _fingerprint(request: ApiRequest) -> str:
    """SHA-256 of what is asked: method, address, and the body or a form's fields and files."""
    found = hashlib.sha256(b"\0".join([str(request.method).encode(), request.get_full_path().encode(), b""]))
    if request.content_type == "multipart/form-data":
        found.update(request.POST.urlencode().encode())
        files: dict[str, Any] = dict(request.FILES.items())
        for name, file in sorted(files.items()):
            found.update(f"\0{name}\0{file.name}\0{file.size}\0".encode())
            for chunk in file.chunks():
                found.update(chunk)
            file.seek(0)
    else:
        found.update(request.body)
    return found.hexdigest()
