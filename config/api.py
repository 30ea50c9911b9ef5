"""The REST API at /api/v1/, put together. Its OpenAPI description is at /api/v1/openapi.json."""

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI

from annotate.api.errors import Problem, add_error_handlers, problem_response
from annotate.api.datasets import router as datasets
from annotate.api.projects import router as projects
from annotate.api.prompts import router as prompts
from annotate.api.rankings import router as rankings
from training.api.evaluations import router as evaluations
from training.api.pipelines import router as pipelines
from training.api.replies import router as replies
from training.api.runs import router as runs

api = NinjaAPI(
    title="Podium",
    version="1.0.0",
    description=(
        "Projects, their data and their training, for scripts. Errors are problem+json (RFC 9457). Lists come in pages: "
        "send `next` back as `cursor`. What makes something takes an `Idempotency-Key`: the same request again is done once."
    ),
    docs_url=None,
)
add_error_handlers(api)
for router in (projects, datasets, runs, replies, pipelines):
    api.add_router("", router)


@csrf_exempt
def unknown_address(request: HttpRequest) -> HttpResponse:
    """For scripts, which cannot read the page that says so."""
    return problem_response(Problem(404, _("There is no such thing here.")))
