"""Errors as problem+json (RFC 9457)."""

import logging
import secrets
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as InvalidValue
from django.http import Http404, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext as _
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic import Field

from annotate.services.assignments import Refused

logger = logging.getLogger("podium.api")

TITLES = {
    400: "The request cannot be read",
    401: "No valid token",
    403: "Not allowed",
    404: "Not found",
    405: "No such method",
    409: "In conflict with what is there",
    412: "It has changed",
    413: "Too large",
    415: "Not a type that is taken",
    416: "No such part",
    422: "The request cannot be done as it is",
    429: "Too many requests",
    500: "Something went wrong on our side",
    503: "The database is away",
    507: "The disk is full",
}
# What an operation may be answered beside what it is asked for; each of them lists these.
ERRORS = frozenset({400, 401, 403, 404, 409, 413, 415, 422, 429})


class Problem(Exception):
    """An answer that is an error. `errors` maps fields to what is wrong with them."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: dict[str, list[str]] | None = None,
        headers: dict[str, str] | None = None,
        title: str = "",
    ) -> None:
        self.status, self.detail, self.errors, self.headers = status, detail, errors or {}, headers or {}
        self.title = title or TITLES.get(status, TITLES[500])
        super().__init__(detail)


class ProblemOut(Schema):
    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="What happened, for a person")
    errors: dict[str, list[str]] = Field(description="What is wrong with which field of the request")


def problem_response(problem: Problem) -> HttpResponse:
    body = ProblemOut(
        title=problem.title,
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
    answer(HttpError, _describe_http_error)
    answer(RequestDataTooBig, lambda _error: Problem(413, _("The request is larger than the server takes.")))
    for kind in (SuspiciousOperation, MultiPartParserError, UnreadablePostError):
        answer(kind, lambda _error: Problem(400, _("The request is damaged, or broke off.")))
    answer(Exception, describe_fault)


def _describe_http_error(error: HttpError) -> Problem:
    # Ninja calls every failure to read a body the same; ours say what it was.
    return error.__cause__ if isinstance(error.__cause__, Problem) else Problem(error.status_code, str(error))


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


def describe_fault(error: Exception, status: int = 500) -> Problem:
    reference = secrets.token_hex(4)
    logger.error("the API failed, reference %s", reference, exc_info=error)
    return Problem(status, _("The log has it as %(reference)s.") % {"reference": reference})
