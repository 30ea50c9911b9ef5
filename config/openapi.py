"""The API's description, with what all operations have in common."""

from collections.abc import Iterator
from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

PROBLEM = {
    "type": "about:blank",
    "title": "The request cannot be done as it is",
    "status": 422,
    "detail": "Some fields are wrong.",
    "errors": {"limit": ["Input should be less than or equal to 200"]},
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 100, "pattern": "^[!-~]*$"},
    "description": "Of your own choosing. The same request with the same key is done once, and answered alike.",
}
TAGS = {
    "projects": "Projects, and who the token acts as",
    "data": "Prompts, completions and rankings",
    "datasets": "Dataset versions: frozen rankings",
    "training": "Methods, runs, checkpoints, evaluations, replies",
    "pipelines": "Trainings in a row",
    "webhooks": "What happens, told to other programs",
}
# Of a body alone.
ABOUT_BODIES = ("413", "415")


class DescribedAPI(NinjaAPI):
    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        described = super().get_openapi_schema(**options)
        operations = {one.operation_id: one for one in self._operations()}
        for path in described["paths"].values():
            for one in path.values():
                _complete(one, operations[one["operationId"]])
        used = {tag for path in described["paths"].values() for one in path.values() for tag in one.get("tags", [])}
        described["tags"] = [{"name": tag, "description": TAGS.get(tag, tag.capitalize())} for tag in sorted(used)]
        described["servers"] = [{"url": "/", "description": "The server that this description comes from"}]
        described["components"]["schemas"]["ProblemOut"]["examples"] = [PROBLEM]
        return described

    def _operations(self) -> Iterator[Operation]:
        for router in self._get_bound_routers():
            for view in router.path_operations.values():
                yield from view.operations


def _complete(described: dict[str, Any], operation: Operation) -> None:
    scopes = [one.scope.value for one in operation.auth_callbacks if hasattr(one, "scope")]
    described["security"] = [dict.fromkeys(one, scopes) for one in described.get("security", [])]
    needs = ", ".join(f"`{scope}`" for scope in scopes)
    described["description"] = f"{described.get('description', '')}\n\nThe token needs the permission {needs}.".strip()
    has_body = "requestBody" in described
    # Numbers until the description is written as JSON.
    responses = {str(status): response for status, response in described["responses"].items()}
    described["responses"] = {
        status: _as_problem(response) if int(status) >= 400 else response
        for status, response in responses.items()
        if has_body or status not in ABOUT_BODIES
    }
    if getattr(operation.view_func, "is_idempotent", False):
        described["parameters"] = [*described.get("parameters", []), KEY]
    for parameter in described.get("parameters", []):
        if parameter["in"] == "path" and parameter["schema"].get("type") == "integer":
            parameter["schema"] = {**parameter["schema"], "minimum": 0}
        if parameter["in"] == "path" and parameter["name"] == "slug":
            parameter["schema"] = {**parameter["schema"], "pattern": "^[-a-zA-Z0-9_]+$", "examples": ["tides"]}


def _as_problem(response: dict[str, Any]) -> dict[str, Any]:
    schemas = list(response.get("content", {}).values())
    return {**response, "content": {"application/problem+json": schemas[0]}} if schemas else response
