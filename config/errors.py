"""A page that fails says so with a reference that the log has too."""

import logging
import secrets
from collections.abc import Callable

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string

logger = logging.getLogger("podium.errors")

GetResponse = Callable[[HttpRequest], HttpResponse]


class ErrorReferenceMiddleware:
    """Turns an unhandled exception into a page without a traceback: 503 when the database is away, otherwise 500."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, Http404 | PermissionDenied | BadRequest | SuspiciousOperation):
            return None  # answers, not failures: Django has pages for them
        reference = secrets.token_hex(4)
        logger.error("%s %s failed, reference %s", request.method, request.path, reference, exc_info=exception)
        away = isinstance(exception, OperationalError | InterfaceError)
        status = 503 if away else 500
        html = render_to_string("error.html", {"status": status, "away": away, "reference": reference})
        return HttpResponse(html, status=status)
