"""The REST API at /api/v1/, put together. Its OpenAPI description is at /api/v1/openapi.json."""

import json
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja.parser import Parser
from ninja.renderers import JSONRenderer
from ninja.responses import NinjaJSONEncoder

from annotate.api.errors import Problem, add_error_handlers, describe_fault, problem_response
from annotate.api.exports import router as exports
from annotate.api.imports import router as imports
from annotate.api.projects import router as projects
from annotate.api.prompts import router as prompts
from annotate.api.rankings import router as rankings
from annotate.api.versions import router as datasets
from annotate.api.webhooks import router as webhooks
from training.api.evaluations import router as evaluations
from training.api.lineage import router as lineage
from training.api.pipelines import router as pipelines
from training.api.replies import router as replies
from training.api.runs import router as runs

from .errors import status_of
from .openapi import DescribedAPI


class JsonParser(Parser):
    def parse_body(self, request: HttpRequest) -> Any:
        """Raises Problem for another content type and for what is no object, ValueError for what is no JSON: NaN is none."""
        if request.content_type != "application/json":
            raise Problem(415, _("Send JSON, as “Content-Type: application/json”."))
        found = json.loads(request.body, parse_constant=_refuse_constant)
        if not isinstance(found, dict):
            raise Problem(422, _("Send a JSON object, in braces."))
        return found


class JsonEncoder(NinjaJSONEncoder):
    def default(self, value: Any) -> Any:
        """A time as all of the API writes it: UTC, to the microsecond."""
        if isinstance(value, datetime):
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return super().default(value)


class JsonRenderer(JSONRenderer):
    encoder_class = JsonEncoder


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


api = DescribedAPI(
    title="Podium",
    version="1.0.0",
    description=(
        "Projects, their data and their training, for scripts. Errors are problem+json (RFC 9457). Lists come in pages: "
        "send `next` back as `cursor`. What makes something takes an `Idempotency-Key`: the same request again is done once."
    ),
    docs_url=None,
    parser=JsonParser(),
    renderer=JsonRenderer(),
)
add_error_handlers(api)


@api.exception_handler(Exception)
def answer_fault(request: HttpRequest, error: Any) -> HttpResponse:
    return problem_response(describe_fault(error, status_of(error)))


for router in (
    projects,
    prompts,
    rankings,
    imports,
    evaluations,
    datasets,
    lineage,
    exports,
    runs,
    replies,
    pipelines,
    webhooks,
):
    api.add_router("", router)
