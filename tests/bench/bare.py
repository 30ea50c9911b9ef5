"""What the API is measured against: ninja views without a middleware, a token or a database, whose answers lie ready as bytes."""

import os
from pathlib import Path

from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"], ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None, USE_TZ=True
)

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from ninja import NinjaAPI  # noqa: E402

ANSWERS = {file.stem: file.read_bytes() for file in Path(os.environ["BARE_ANSWERS"]).iterdir()}
api = NinjaAPI(docs_url=None)


def answer(name: str) -> HttpResponse:
    body = ANSWERS[name]
    return HttpResponse(body, content_type="application/json", headers={"Content-Length": str(len(body))})


@api.get("/projects/{slug}/prompts")
def prompts(request: HttpRequest, slug: str, limit: int = 50) -> HttpResponse:
    return answer("prompts")


@api.get("/projects/{slug}/rankings")
def rankings(request: HttpRequest, slug: str, limit: int = 50) -> HttpResponse:
    return answer("rankings")


@api.get("/projects/{slug}")
def project(request: HttpRequest, slug: str) -> HttpResponse:
    return answer("project")


@api.get("/projects/{slug}/runs/{int:id}")
def run(request: HttpRequest, slug: str, id: int) -> HttpResponse:
    return answer("run")


urlpatterns = [path("api/v1/", api.urls)]
application = get_wsgi_application()
