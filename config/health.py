"""For load balancers and people: does the process answer, and does it reach what it needs?"""

import logging
import tempfile

import psycopg
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.celery import app

logger = logging.getLogger("podium.health")

SECONDS = 2


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """`{"ready": …, "database": "ok" | "unreachable", "broker": …, "storage": …}`, with status 503 unless all are ok.

    Why something is unreachable stands in the log, not in an answer that anyone can read.
    """
    states = {}
    for name, check in (("database", check_database), ("broker", check_broker), ("storage", check_storage)):
        try:
            check()
            states[name] = "ok"
        except Exception as error:  # whatever the reason is, the answer is the same
            logger.warning("%s is unreachable: %s", name, error)
            states[name] = "unreachable"
    ready = all(state == "ok" for state in states.values())
    return JsonResponse({"ready": ready, **states}, status=200 if ready else 503)


def check_database() -> None:
    """On a connection of its own, so that a database that hangs is told apart from a slow page within seconds."""
    parameters = connection.get_connection_params()
    with psycopg.connect(**{**parameters, "connect_timeout": SECONDS}) as database:
        database.execute(f"SET statement_timeout = '{SECONDS}s'")
        database.execute("SELECT 1")


def check_broker() -> None:
    timeouts = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    options = {**app.conf.broker_transport_options, **timeouts}
    with app.connection_for_write(transport_options=options, connect_timeout=SECONDS) as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, timeout=SECONDS)


def check_storage() -> None:
    with tempfile.TemporaryFile(dir=settings.MEDIA_ROOT) as file:
        file.write(b"ok")
