"""Trying a checkpoint: asked by the API, answered by a real model in a process of its own."""

import threading

import pytest

from config.processes import wait_until
from tests.annotate.test_tokens import get, make_token
from tests.training.conftest import make_checkpoint
from tests.training.test_api import post
from training import process
from training.models import Checkpoint, Reply
from training.services import replies

QUESTION = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}


def places(project, checkpoint) -> str:
    return f"/api/v1/projects/{project.slug}/checkpoints/{checkpoint.pk}/replies"


@pytest.fixture
def token(alice, project):
    return make_token(alice, "read", "train")


def asked(path, token, **changes) -> Reply:
    answer = post(path, token, {**QUESTION, **changes})
    assert answer.status_code == 201, answer.content
    assert answer.json()["state"] == "queued"
    return Reply.objects.get(pk=answer.json()["id"])


@pytest.mark.django_db(transaction=True)
def test_questions_to_one_checkpoint_are_answered_by_one_process(
    alice, project, token, tiny_model, settings, monkeypatch
):
    settings.REPLY_IDLE_SECONDS = 0.5
    path = places(project, make_checkpoint(project, tiny_model))
    command, commands = process.recipe_command, []

    def counted(*arguments):
        commands.append(arguments)
        return command(*arguments)

    monkeypatch.setattr(process, "recipe_command", counted)
    sampling = {"max_new_tokens": 8, "seed": 5}
    first, again, long = (
        asked(path, token, sampling=sampling),
        asked(path, token, sampling=sampling),
        asked(path, token, messages=[{"role": "user", "content": "and " * 20_000}]),
    )
    stopped = asked(path, token, sampling={"max_new_tokens": 4096})
    ended = post(f"/api/v1/projects/{project.slug}/replies/{stopped.pk}/cancel", token, {}).json()
    assert ended["state"] == "cancelled"
    replies.answer(first.pk, shutting_down=lambda: False)
    said = [get(f"/api/v1/projects/{project.slug}/replies/{one.pk}", token).json() for one in (first, again, long)]
    assert [one["state"] for one in said] == ["succeeded", "succeeded", "failed"]
    assert 1 <= said[0]["tokens"] <= 8
    assert {name: said[0][name] for name in ("text", "tokens")} == {name: said[1][name] for name in ("text", "tokens")}
    assert "tokens, more than this model reads" in said[2]["error"]
    assert len(commands) == 1


@pytest.mark.django_db(transaction=True)
def test_a_checkpoint_that_cannot_be_loaded_says_why(project, token, tmp_path):
    (tmp_path / "empty").mkdir()
    reply = asked(places(project, make_checkpoint(project, tmp_path / "empty")), token)
    replies.answer(reply.pk, shutting_down=lambda: False)
    reply.refresh_from_db()
    assert (reply.state, reply.attempt) == ("failed", 1)
    assert str(tmp_path / "empty") in reply.error


@pytest.mark.parametrize("ends", ["cancel", "shutdown"])
@pytest.mark.django_db(transaction=True)
def test_an_answer_under_way_stops(project, base, token, settings, ends):
    """The recipe takes seconds to load, in which the end comes."""
    settings.RUN_BEAT_SECONDS = 0.05
    reply = asked(places(project, base), token)
    stop = threading.Event()

    def end():
        assert wait_until(lambda: Reply.objects.get().state == "running", 10)
        if ends == "cancel":
            replies.cancel_reply(reply=Reply.objects.get())
        else:
            stop.set()

    timer = threading.Thread(target=end)
    timer.start()
    replies.answer(reply.pk, shutting_down=stop.is_set)
    timer.join()
    reply.refresh_from_db()
    assert reply.state == ("cancelled" if ends == "cancel" else "queued")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "Hm."}]}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x" * 200_001}]}, "messages"),
        ({"sampling": {"temperature": 9}}, "sampling.temperature"),
        ({"sampling": {"max_new_tokens": 2.5}}, "sampling.max_new_tokens"),
        ({"sampling": {"warmth": 1}}, "sampling.warmth"),
    ],
)
def test_what_is_wrong_with_a_question_is_named(project, base, token, change, field):
    answer = post(places(project, base), token, {**QUESTION, **change})
    assert answer.status_code == 422
    assert any(field in name for name in answer.json()["errors"]), answer.json()


def test_a_reward_model_answers_nothing(project, token, tmp_path):
    model = make_checkpoint(project, tmp_path, "rm", kind=Checkpoint.Kind.REWARD_MODEL)
    assert "checkpoint" in post(places(project, model), token, QUESTION).json()["errors"]


def test_who_may_ask(project, base, bob, rita, alice):
    path = places(project, base)
    assert post(path, make_token(alice, "read"), QUESTION).status_code == 403
    assert post(path, make_token(bob, "read", "train"), QUESTION).status_code == 403
    assert post(path, make_token(rita, "read", "train"), QUESTION).status_code == 201
    assert Reply.objects.count() == 1
