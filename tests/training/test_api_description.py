"""Schemathesis asks the whole API as its description says, and unlike it, and holds the answers against the description.

`PODIUM_API_EXAMPLES=200 pytest tests/training/test_api_description.py` looks longer.
"""

import os
import re
from collections import Counter
from typing import Any

import pytest
import schemathesis
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client
from django.utils import timezone
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.pytest.lazy import get_all_tests

from annotate.models import User
from config.wsgi import application
from tests.annotate.test_tokens import bearer, make_token
from tests.training.evaluations import headline_of, planted_evaluation
from tests.training.test_api import post
from tests.training.test_api_pipelines import DEFINITION
from training.models import RunInput

EXAMPLES = int(os.environ.get("PODIUM_API_EXAMPLES", "2"))
DESCRIPTION = "/api/v1/openapi.json"


@pytest.fixture
def token(alice, project, settings) -> str:
    settings.API_REQUESTS_PER_MINUTE = 1_000_000
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    return make_token(alice, "read", "write", "train")


@pytest.fixture
def known(project, base, dataset, token) -> dict[str, int]:
    """A row of each kind; the part of the address before its id → id."""
    at = f"/api/v1/projects/{project.slug}"

    def make(path: str, body: dict[str, Any]) -> int:
        answer = post(f"{at}/{path}", token, body)
        assert answer.status_code == 201, (path, answer.content)
        return int(answer.json()["id"])

    run = make("runs", {"method": "generate", "inputs": {"policy": "base"}})
    evaluation = planted_evaluation(20)
    evaluated = project.runs.create(
        method="evaluate",
        state="succeeded",
        arguments={},
        dataset_version=dataset,
        result={"metrics": headline_of(evaluation), "evaluation": evaluation},
        finished_at=timezone.now(),
    )
    RunInput.objects.create(run=evaluated, role="policy", checkpoint=base)
    pipeline = make("pipelines", {"name": "Tune", "definition": DEFINITION})
    webhook = make("webhooks", {"url": "https://example.org/hook", "events": ["run.ended"]})
    file = SimpleUploadedFile("rows.jsonl", b'{"prompt": "Why?", "completions": ["a", "b"]}\n')
    uploaded = Client().post(f"{at}/imports", {"file": file}, headers=bearer(token))
    assert uploaded.status_code == 201, uploaded.content
    return {
        "prompts": project.prompts.first().pk,
        "runs": run,
        "evaluations": evaluated.pk,
        "checkpoints": base.pk,
        "replies": make(f"checkpoints/{base.pk}/replies", {"messages": [{"role": "user", "content": "Hello"}]}),
        "pipelines": pipeline,
        "pipeline-runs": make(f"pipelines/{pipeline}/start", {}),
        "webhooks": webhook,
        "deliveries": make(f"webhooks/{webhook}/test", {}),
        "imports": uploaded.json()["id"],
        "datasets": dataset.number,
    }


@pytest.fixture
def one_connection():
    """As Django's own test client does it: a request's end does not close the connection that the test's transaction is on."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def described(project, known, token, one_connection) -> Any:
    config = schemathesis.Config.from_dict(
        {
            "auth": {"openapi": {"Token": {"bearer": token}}},
            # Whether a checkpoint of that name exists, or a text is TOML, no schema says: 422 is for that, too.
            "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 401, 403, 404, 409, 422]}},
            "generation": {
                "max-examples": EXAMPLES,
                "deterministic": True,
                "database": "none",
                "no-shrink": EXAMPLES < 10,
            },
            "phases": {"coverage": {"unexpected-methods": ["PUT", "OPTIONS"]}, "stateful": {"enabled": False}},
        }
    )
    schema = schemathesis.openapi.from_wsgi(DESCRIPTION, application, config=config)

    @schema.hook
    def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        """Most addresses that may be are those of something that is there."""
        if not path_parameters:
            return path_parameters
        found = dict(path_parameters)
        parts = context.operation.path.split("/")
        for name, value in path_parameters.items():
            if name == "slug" and re.fullmatch("[-a-zA-Z0-9_]+", str(value)) and len(str(value)) % 4:
                found[name] = project.slug
            kind = parts[parts.index(f"{{{name}}}") - 1]
            if kind in known and isinstance(value, int) and value >= 0 and value % 4:
                found[name] = known[kind]
        return found

    return schema


def test_the_api_keeps_what_its_description_promises(described):
    """Every operation by its examples, by the edges of its schema, and by EXAMPLES random requests."""
    load_all_checks()
    asked: Counter[str] = Counter()
    faults = []

    def ask(case: Any) -> None:
        asked[case.operation.label] += 1
        case.call_and_validate()

    for result in get_all_tests(schema=described, test_func=ask, settings=None, given_kwargs={}):
        assert isinstance(result, Ok), result
        operation, test = result.ok()
        try:
            test()
        except (Exception, FailureGroup) as error:
            faults.append(f"{operation.label}: {error}")
    print(f"{sum(asked.values())} requests to {len(asked)} operations")
    assert not faults, "\n\n".join(faults)
