"""A request that fails is answered with a page in plain words, and with a reference that the log has too."""

import errno
import logging
import secrets
import sys

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from psycopg.errors import DiskFull

logger = logging.getLogger("podium.errors")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """413 when the request is larger than we take, otherwise 400."""
    too_large = isinstance(exception, RequestDataTooBig)
    html = render_to_string("400.html", {"too_large": too_large, "limit": settings.UPLOAD_LIMIT_BYTES})
    return HttpResponse(html, status=413 if too_large else 400)


def server_error(request: HttpRequest) -> HttpResponse:
    """For whatever fails in a view, in a middleware or while the request is read: 507 when a disk is full, 503 when the
    database is away, otherwise 500. Django calls it while the exception is being handled.
    """
    exception = sys.exception()
    reference = secrets.token_hex(4)
    path = "/join/…" if request.path.startswith("/join/") else request.path  # an invitation's token is a secret
    logger.error("%s %s failed, reference %s", request.method, path, reference, exc_info=exception)
    status = status_of(exception)
    return HttpResponse(render_to_string("error.html", {"status": status, "reference": reference}), status=status)


def status_of(exception: BaseException | None) -> int:
    if isinstance(exception, OSError) and exception.errno in (errno.ENOSPC, errno.EDQUOT):
        return 507
    if isinstance(exception, OperationalError) and isinstance(exception.__cause__, DiskFull):
        return 507
    return 503 if isinstance(exception, OperationalError | InterfaceError) else 500
