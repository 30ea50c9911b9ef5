"""The command `podium`: what it prints where, and how it exits."""

import json
import os
import pty
import stat
import subprocess
import sys

import pytest

from podium_client.cli import main

from .conftest import Answer, token_of


@pytest.fixture
def podium(monkeypatch, capsys):
    """`podium("run", "list", "tides")` gives exit code, standard output and standard error."""

    def run(*words: str, typed: str | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["podium", *words])
        if typed is not None:
            import io

            monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def pointed(elsewhere, monkeypatch):
    """`pointed(answers…)` is a server to which the command is pointed by the environment."""

    def start(*answers: Answer):
        server = elsewhere(*answers)
        monkeypatch.setenv("PODIUM_URL", server.url)
        monkeypatch.setenv("PODIUM_TOKEN", "secret")
        return server

    return start


def said(*items: dict[str, object]) -> Answer:
    return Answer(200, json.dumps({"items": items, "next": None}).encode())


PROJECT = Answer(200, b'{"slug": "tides", "name": "Tides", "rankings_done": 3, "new_field": 1}')


def test_it_asks_for_a_token_and_keeps_it_for_its_owner_alone(podium, live_site, alice, project, own_home):
    assert podium("projects")[0] == 3
    code, out, err = podium("login", live_site, typed="pod_wrong\n")
    assert (code, out) == (3, "")
    assert "podium: " in err
    token = token_of(alice)
    code, out, err = podium("login", live_site, typed=token + "\n")
    assert (code, err) == (0, "")
    assert "Signed in as alice" in out
    assert token not in out
    (file,) = (own_home / "config" / "podium").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert podium("projects")[1] == "tides\tTides\tactive\n"
    assert json.loads(podium("project", "show", "tides", "--json")[1])["slug"] == "tides"
    assert podium("logout")[0] == 0
    assert podium("projects")[0] == 3


def test_it_sends_no_token_in_clear(podium):
    code, _out, err = podium("login", "http://podium.example", typed="secret\n")
    assert code == 3
    assert "not encrypted" in err


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (Answer(401), 3, ""),
        (Answer(404, b'{"title": "", "detail": "There is no project."}'), 4, "podium: There is no project. (404)\n"),
        (
            Answer(422, b'{"detail": "Wrong.", "errors": {"slug": ["taken"]}}'),
            2,
            "podium: Wrong. (422)\n  slug: taken\n",
        ),
        (Answer(500), 1, ""),
    ],
)
def test_what_the_server_refuses_is_told_in_a_line(podium, pointed, answer, code, words):
    pointed(answer)
    ended, out, err = podium("project", "show", "tides")
    assert (ended, out) == (code, "")
    assert err.startswith(words or "podium: ")
    assert "Traceback" not in err


def test_a_wrong_command_is_told_what_is_right(podium):
    code, _out, err = podium("run", "begin")
    assert code == 2
    assert "begin" in err
    assert podium("wait", "tides")[0] == 2


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_away_and_a_timeout_have_codes_of_their_own(podium, pointed):
    pointed(PROJECT, PROJECT)
    assert podium("wait", "tides", "--rankings", "9", "--timeout", "0")[0] == 6
    pointed(PROJECT, PROJECT)
    assert podium("wait", "tides", "--rankings", "2")[0] == 0
    pointed().close()
    assert podium("projects")[0] == 7


def test_lists_are_lines_and_json_is_what_the_server_says(podium, pointed):
    runs = (
        {"id": 4, "method": "sft", "state": "queued", "note": "two\nlines\there"},
        {"id": 3, "method": "dpo", "state": "failed"},
    )
    pointed(PROJECT, said(*runs))
    assert podium("run", "list", "tides")[1] == "4\tsft\tqueued\t0\t0\t\ttwo lines here\n3\tdpo\tfailed\t0\t0\t\t\n"
    pointed(PROJECT, said(*runs))
    assert [json.loads(line) for line in podium("run", "list", "tides", "--json")[1].splitlines()] == list(runs)


def test_what_people_and_models_wrote_does_not_command_the_terminal(podium, pointed):
    pointed(PROJECT, said({"id": 4, "method": "sft", "state": "failed", "note": "\x1b[2J\x07gone\u202e"}))
    (line,) = podium("run", "list", "tides")[1].splitlines()
    assert "\x1b" not in line
    assert "\x07" not in line
    assert "\u202e" not in line
    assert "gone" in line


def test_rows_from_the_standard_input_are_sent(podium, pointed):
    server = pointed(
        PROJECT, Answer(201, b'{"prompts": 2, "refused": [{"row": 1, "field": "prompt", "reason": "is empty"}]}')
    )
    typed = '{"prompt": "A?"}\n\n{"prompt": ""}\n'
    code, out, err = podium("import", "tides", "-", typed=typed)
    assert (code, err) == (0, "row 1: prompt: is empty\n")
    assert "prompts" in out
    assert json.loads(server.asked[1][3])["rows"] == [{"prompt": "A?"}, {"prompt": ""}]
    pointed(PROJECT)
    assert "Line 2 is no JSON" in podium("import", "tides", "-", typed="{}\n{\n")[2]


def test_a_file_that_is_not_there_is_told(podium, pointed):
    pointed(PROJECT)
    code, _out, err = podium("import", "tides", "nowhere.jsonl")
    assert code == 1
    assert "nowhere.jsonl" in err


def test_a_run_that_fails_while_it_is_followed_fails_the_command(podium, pointed):
    run = {"id": 4, "method": "sft", "state": "failed", "error": "The disk is full."}
    figures = {"names": ["loss", "eval_loss"], "rows": [[1, 0.5, None], [2, 0.25, 0.75]]}
    answers = [Answer(200, json.dumps(one).encode()) for one in (run, run, figures)]
    pointed(PROJECT, *answers)
    code, out, err = podium("run", "follow", "tides", "4")
    assert (code, out) == (5, "step 1  loss 0.5\nstep 2  eval_loss 0.75  loss 0.25\n")
    assert err == "podium: Run 4 (sft): failed: The disk is full.\n"


def test_a_conversation_goes_on_until_it_ends(podium, pointed):
    server = pointed(
        PROJECT,
        said({"id": 9, "name": "dpo", "is_promoted": True}),
        Answer(201, b'{"id": 1, "state": "succeeded", "text": "Yes."}'),
    )
    assert podium("chat", "tides", "Rain?", "--system", "Be brief.", "--temperature", "0")[1] == "Yes.\n"
    sent = json.loads(server.asked[2][3])
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain?"}]
    assert sent["sampling"] == {"temperature": 0}


def test_bars_are_drawn_on_the_terminal_and_never_into_the_pipe(pointed):
    """The standard error is a terminal, the standard output a pipe."""
    run = {"id": 4, "method": "sft", "state": "running", "step": 1, "total_steps": 2, "seconds_left": 75}
    ended = {**run, "state": "succeeded", "step": 2}
    figures = {"names": ["loss"], "rows": [[1, 0.5]]}
    answers = [run, run, figures, ended, figures, ended]
    pointed(PROJECT, *[Answer(200, json.dumps(one).encode()) for one in answers])
    terminal, other_end = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "podium_client", "run", "follow", "tides", "4", "--json"],
        stdout=subprocess.PIPE,
        stderr=other_end,
        env={**os.environ, "TERM": "xterm"},
        timeout=60,
    )
    os.close(other_end)
    drawn = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert done.returncode == 0, drawn
    assert done.stdout == b'{"step": 1, "loss": 0.5}\n'
    assert "Run 4 (sft)" in drawn
    assert "1 of 2 steps · 1 min 15 s left" in drawn
