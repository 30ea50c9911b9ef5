"""What is under /api/ is answered without what pages need."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import resolve
from django.utils.translation import get_language_from_request, override
from django.utils.translation import gettext as _

from annotate.api.base import seconds_left
from annotate.api.errors import Problem, problem_response

from .api import api


def answer_scripts(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware that answers what is under /api/ itself: a script needs no session, no CSRF token and no page's headers."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _answer(request) if request.path_info.startswith("/api/") else get_response(request)

    return answer


def _answer(request: HttpRequest) -> HttpResponseBase:
    with override(get_language_from_request(request)):
        try:
            request.get_host()
            response = _call(request)
        except Exception as error:  # whatever it is, a script is told in a way that it can read
            response = api.on_exception(request, error)
    response.headers.setdefault("Cache-Control", "no-store")
    if isinstance(response, HttpResponse):
        response.headers.setdefault("Content-Length", str(len(response.content)))
    if use := getattr(request, "use", None):
        limit = settings.API_REQUESTS_PER_MINUTE
        response.headers["RateLimit-Policy"] = f'"minute";q={limit};w=60'
        response.headers["RateLimit"] = f'"minute";r={max(0, limit - use.requests)};t={seconds_left()}'
    return response


def _call(request: HttpRequest) -> HttpResponseBase:
    match = resolve(request.path_info)
    request.resolver_match = match
    response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
    if response.status_code != 405:
        return response
    allowed = {name.strip() for name in response["Allow"].split(",")}
    if request.method == "HEAD" and "GET" in allowed:
        request.method = "GET"
        return _without_body(match.func(request, *match.args, **match.kwargs))
    listed = ", ".join(sorted(allowed | {"OPTIONS"} | ({"HEAD"} if "GET" in allowed else set())))
    if request.method == "OPTIONS":
        return HttpResponse(status=204, headers={"Allow": listed})
    return problem_response(
        Problem(405, _("Here one may %(methods)s.") % {"methods": listed}, headers={"Allow": listed})
    )


def _without_body(response: HttpResponseBase) -> HttpResponseBase:
    if isinstance(response, StreamingHttpResponse):
        response.streaming_content = iter(())
    elif isinstance(response, HttpResponse):
        response.headers["Content-Length"] = str(len(response.content))
        response.content = b""
    return response
