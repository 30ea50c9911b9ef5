"""Fixtures for the whole suite: real Postgres, a real broker, and a cast of people.

Alice is admin of the project, Bob annotates, Rita researches, Charlie belongs to nothing.
"""

import pytest
from django.test import Client

from annotate.models import (
    Completion,
    Membership,
    Project,
    Prompt,
    RankingTask,
    Source,
    TaskCompletion,
    User,
    content_hash,
)

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def storage(settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path / "storage")
    return tmp_path / "storage"


def make_user(username: str) -> User:
    return User.objects.create_user(username, f"{username}@example.org", PASSWORD)


@pytest.fixture
def alice(db) -> User:
    return make_user("alice")


@pytest.fixture
def bob(db) -> User:
    return make_user("bob")


@pytest.fixture
def rita(db) -> User:
    return make_user("rita")


@pytest.fixture
def charlie(db) -> User:
    return make_user("charlie")


@pytest.fixture
def project(alice, bob, rita) -> Project:
    project = Project.objects.create(slug="tides", name="Tides", created_by=alice)
    for user, role in ((alice, "admin"), (bob, "annotator"), (rita, "researcher")):
        Membership.objects.create(project=project, user=user, role=role)
    return project


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make_task(project: Project, question: str = "Why is the sky blue?", texts: list[str] | None = None) -> RankingTask:
    """A task as an import makes it: one prompt, one source, a completion per text."""
    texts = texts or [f"{question} Answer {number}." for number in range(1, 5)]
    messages = [{"role": "user", "content": question}]
    prompt, _ = Prompt.objects.get_or_create(
        project=project, content_hash=content_hash(messages), defaults={"messages": messages}
    )
    source, _ = Source.objects.get_or_create(project=project, name="imported", defaults={"kind": Source.Kind.IMPORT})
    completions = [
        Completion.objects.create(prompt=prompt, source=source, text=text, content_hash=content_hash(text))
        for text in texts
    ]
    task = RankingTask.objects.create(
        project=project,
        prompt=prompt,
        content_hash=content_hash(sorted(completion.pk for completion in completions)),
        overlap=project.overlap,
    )
    TaskCompletion.objects.bulk_create(TaskCompletion(task=task, completion=completion) for completion in completions)
    return task
