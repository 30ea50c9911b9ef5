"""What all of the API has in common: tokens, errors as problem+json (RFC 9457), pages by cursor, idempotency keys."""

import base64
import hashlib
import logging
import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as InvalidValue
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import NinjaAPI, Schema, Status
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.security import HttpBearer
from pydantic import Field, field_validator

from annotate.models import ApiToken, Membership, Project, StoredResponse, User
from annotate.services.assignments import Refused
from annotate.services.tokens import use_token

logger = logging.getLogger("podium.api")

Scope = ApiToken.Scope
Role = Membership.Role
Item = TypeVar("Item")
LIMIT = 200
TITLES = {
    400: "The request cannot be read",
    401: "No valid token",
    403: "Not allowed",
    404: "Not found",
    409: "In conflict with what is there",
    422: "The request cannot be done as it is",
    429: "Too many requests",
    500: "Something went wrong on our side",
}


class ApiRequest(HttpRequest):
    """What an operation is given."""

    auth: ApiToken
    user: User


class Problem(Exception):
    """An answer that is an error. `errors` maps fields to what is wrong with them."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: dict[str, list[str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status, self.detail, self.errors, self.headers = status, detail, errors or {}, headers or {}
        super().__init__(detail)


class ProblemOut(Schema):
    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="What happened, for a person")
    errors: dict[str, list[str]] = Field(description="What is wrong with which field of the request")


ERRORS = frozenset({400, 401, 403, 404, 409, 422, 429})


class Token(HttpBearer):
    """A token with this scope, in the header `Authorization: Bearer …`."""

    openapi_name = "token"

    def __init__(self, scope: ApiToken.Scope) -> None:
        super().__init__()
        self.scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        found = use_token(token)
        if found is None:
            return None
        if found.requests > settings.API_REQUESTS_PER_MINUTE:
            raise Problem(
                429,
                _("A token may send %(count)s requests a minute.") % {"count": settings.API_REQUESTS_PER_MINUTE},
                headers={"Retry-After": "60"},
            )
        if self.scope not in found.scopes:
            raise Problem(403, _("This token has no permission “%(scope)s”.") % {"scope": self.scope})
        request.user = found.user
        return found


def membership_of(request: ApiRequest, slug: str, *roles: Membership.Role) -> Membership:
    """The token's owner in the project. No membership, or a token for another project: 404. Another role than `roles`: 403."""
    rows = Membership.objects.present().select_related("project", "user")
    membership = None
    if "\0" not in slug:
        membership = rows.filter(project__slug=slug, user_id=request.auth.user_id).first()
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


class Page(Schema, Generic[Item]):
    items: list[Item]
    next: str | None = Field(None, description="The `cursor` of the next page; null on the last one")


class PageQuery(Asked):
    cursor: str = Field("", max_length=100, description="`next` of the page before; empty for the first one")
    limit: int = Field(50, ge=1, le=LIMIT)


def page_of(rows: QuerySet[Any], query: PageQuery, *, newest_first: bool = True) -> dict[str, Any]:
    """A page in the order of ids. Rows that come in meanwhile neither repeat nor hide any of those that follow."""
    if query.cursor:
        rows = rows.filter(**{"pk__lt" if newest_first else "pk__gt": _read_cursor(query.cursor)})
    found = list(rows.order_by("-pk" if newest_first else "pk")[: query.limit + 1])
    items = found[: query.limit]
    return {"items": items, "next": _cursor(items[-1].pk) if len(found) > query.limit else None}


def _cursor(pk: int) -> str:
    return base64.urlsafe_b64encode(f"1:{pk}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    try:
        version, _sep, pk = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").partition(":")
        if version != "1" or not 0 <= int(pk) < 2**63:
            raise ValueError(cursor)
        return int(pk)
    except ValueError as error:
        raise Problem(
            422, _("The cursor is none of ours."), {"cursor": [_("Take it from “next” of the page before.")]}
        ) from error


def idempotent(operation: Callable[..., Status[Any]]) -> Callable[..., Status[Any]]:
    """For an operation that makes something: a request with the header `Idempotency-Key` is done once, however often it comes.

    The operation and its stored answer are one transaction; a second request that comes meanwhile waits for it.
    """

    @wraps(operation)
    def once(request: ApiRequest, *args: Any, **kwargs: Any) -> Status[Any]:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return operation(request, *args, **kwargs)
        if len(key) > 100:
            raise Problem(422, _("An Idempotency-Key has at most 100 characters."))
        fingerprint = hashlib.sha256(
            b"\0".join([str(request.method).encode(), request.path.encode(), request.body])
        ).hexdigest()
        with transaction.atomic():
            stored, _made = StoredResponse.objects.get_or_create(
                token=request.auth, key=key, defaults={"fingerprint": fingerprint}
            )
            if stored.fingerprint != fingerprint:
                raise Problem(422, _("This Idempotency-Key was used for another request."))
            if not stored.status:
                made = operation(request, *args, **kwargs)
                stored.status, stored.body = made.status_code, made.value.model_dump(mode="json")
                stored.save(update_fields=["status", "body"])
            return Status(stored.status, stored.body)

    return once


def problem_response(problem: Problem) -> HttpResponse:
    body = ProblemOut(
        title=TITLES.get(problem.status, TITLES[500]),
        status=problem.status,
        detail=problem.detail,
        errors=problem.errors,
    )
    return HttpResponse(
        body.model_dump_json(), status=problem.status, content_type="application/problem+json", headers=problem.headers
    )


def add_error_handlers(api: NinjaAPI) -> None:
    """Every error of the API is problem+json."""

    def answer(kind: type[Exception], describe: Callable[[Any], Problem]) -> None:
        api.add_exception_handler(kind, lambda request, error: problem_response(describe(error)))

    answer(Problem, lambda problem: problem)
    answer(
        AuthenticationError,
        lambda _error: Problem(
            401, _("Send a token: “Authorization: Bearer …”."), headers={"WWW-Authenticate": "Bearer"}
        ),
    )
    answer(PermissionDenied, lambda _error: Problem(403, _("Your role in this project does not allow that.")))
    answer(Http404, lambda _error: Problem(404, _("There is no such thing here.")))
    answer(ValidationError, _describe_fields)
    answer(InvalidValue, _describe_values)
    answer(Refused, lambda refused: Problem(refused.status, refused.message))
    answer(HttpError, lambda error: Problem(error.status_code, str(error)))
    answer(Exception, _describe_fault)


def _describe_fields(error: ValidationError) -> Problem:
    errors: dict[str, list[str]] = {}
    for one in error.errors:
        place = [str(part) for part in one["loc"] if part not in ("body", "query", "path", "values")]
        errors.setdefault(".".join(place) or "request", []).append(str(one["msg"]))
    return Problem(422, _("Some fields are wrong."), errors)


def _describe_values(error: InvalidValue) -> Problem:
    if hasattr(error, "error_dict"):
        return Problem(
            422, _("Some fields are wrong."), {name: list(texts) for name, texts in error.message_dict.items()}
        )
    return Problem(422, " ".join(error.messages))


def _describe_fault(error: Exception) -> Problem:
    reference = secrets.token_hex(4)
    logger.error("the API failed, reference %s", reference, exc_info=error)
    return Problem(500, _("The log has it as %(reference)s.") % {"reference": reference})
