"""The German catalogue is whole and in step with the sources, and pages come in the reader's language."""

import re
import shutil
import subprocess
import sys
from gettext import GNUTranslations
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.test import Client
from django.utils import translation

from annotate.numbers import grouped, rounded, significant
from tests.conftest import make_task, signed_in

FOLDER = Path(settings.BASE_DIR) / "locale/de/LC_MESSAGES"
SOURCES = ("annotate", "config", "training", "templates")
GERMAN = {"accept-language": "de-AT,de;q=0.9,en;q=0.5"}


def entries(path: Path) -> list[Message]:
    with path.open("rb") as file:
        return [message for message in read_po(file, locale="de") if message.id]


def key(message: Message) -> tuple[str | None, str | tuple[str, ...]]:
    return message.context, message.id if isinstance(message.id, str) else tuple(message.id)


def both(message: Message) -> list[tuple[str, str]]:
    """(English, German) of each form."""
    if isinstance(message.id, str):
        return [(message.id, str(message.string))]
    return list(zip(message.id, message.string or (), strict=True))


@pytest.fixture(scope="module")
def german() -> list[Message]:
    return entries(FOLDER / "django.po")


def test_every_entry_is_translated_and_none_is_doubtful(german):
    assert len(german) > 1000
    assert [message.id for message in german if message.fuzzy] == []
    assert [message.id for message in german if not all(translated for _english, translated in both(message))] == []


def parts_to_keep(text: str) -> list[str]:
    """What a translation must repeat: values, HTML tags, and whether the text begins or ends in a space."""
    values = re.findall(r"%\(\w+\)[sd]|%[sd%]|\{\w+\}|</?\w+[^>]*>", text)
    return sorted(values) + [text[:1]] * text[:1].isspace() + [text[-1:]] * text[-1:].isspace()


def test_translations_keep_values_and_markup(german):
    wrong = []
    for message in german:
        pairs = both(message)
        # One of something may be said without its number, in either language.
        allowed = [
            {tuple(parts_to_keep(english)), tuple(parts_to_keep(pairs[-1][0]))} for english, _translated in pairs
        ]
        for (_english, translated), keeps in zip(pairs, allowed, strict=True):
            if tuple(parts_to_keep(translated)) not in keeps:
                wrong.append(translated)
    assert wrong == []


def test_the_compiled_catalogue_is_the_written_one(german):
    path = FOLDER / "django.mo"
    with path.open("rb") as file:
        compiled = GNUTranslations(file)
    with path.open("rb") as file:
        assert len(read_mo(file)) == len(german)
    for message in german:
        singular, plural = message.id if isinstance(message.id, tuple) else (message.id, None)
        if plural:
            found = [compiled.ngettext(singular, plural, number) for number in (1, 2)]
        elif message.context:
            found = [compiled.pgettext(message.context, singular)]
        else:
            found = [compiled.gettext(singular)]
        assert found == [translated for _english, translated in both(message)]


def test_every_string_of_the_sources_is_in_the_catalogue(german, tmp_path):
    if not shutil.which("xgettext"):
        pytest.skip("GNU gettext is not installed, so the sources cannot be read: apt-get install gettext")
    for name in SOURCES:
        unread = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(settings.BASE_DIR) / name, tmp_path / name, ignore=unread)
    (tmp_path / "locale").mkdir()
    command = [sys.executable, "-m", "django", "makemessages", "--locale", "de", "--no-location"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = set(map(key, entries(tmp_path / "locale/de/LC_MESSAGES/django.po")))
    known = set(map(key, german))
    assert (found - known, known - found) == (set(), set()), "run `make messages`, translate, and run it again"


def test_no_function_of_gettext_bears_a_name_that_xgettext_does_not_know():
    files = [path for name in SOURCES for path in (Path(settings.BASE_DIR) / name).rglob("*.py")]
    aliases = re.compile(r"import \w*gettext\w* as (?!_$).*", re.MULTILINE)
    assert [str(path) for path in files if aliases.search(path.read_text(encoding="utf-8"))] == []


def test_a_page_comes_in_the_browser_s_language(client, db):
    answer = client.get("/accounts/login/", headers=GERMAN)
    assert '<html lang="de"' in answer.content.decode()
    assert "<h1>Anmelden</h1>" in answer.content.decode()
    assert answer.headers["Content-Language"] == "de"
    assert "<h1>Sign in</h1>" in client.get("/accounts/login/", headers={"accept-language": "fr"}).content.decode()


def test_whoever_chooses_a_language_keeps_it_and_stays_on_the_page(project, bob):
    client = signed_in(bob)
    path = f"/projects/{project.slug}/?from=here"
    page = client.get(path).content.decode()
    assert f'<input type="hidden" name="next" value="{path}">' in page
    assert 'name="language" value="de" lang="de" aria-pressed="false">Deutsch' in page
    answer = client.post("/language/", {"language": "de", "next": path})
    assert (answer.status_code, answer.headers["Location"]) == (302, path)
    cookie = answer.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert (cookie.value, cookie["httponly"], cookie["samesite"]) == ("de", True, "Lax")
    page = client.get(path, headers={"accept-language": "en"}).content.decode()
    assert '<html lang="de"' in page
    assert 'value="de" lang="de" aria-pressed="true">Deutsch' in page
    assert "Rangfolgen" in page


def test_choosing_a_language_leads_nowhere_else(client, db):
    answer = client.post("/language/", {"language": "de", "next": "https://elsewhere.example/"})
    assert answer.headers["Location"] == "/"
    answer = client.post("/language/", {"language": "xx", "next": "/accounts/login/"})
    assert settings.LANGUAGE_COOKIE_NAME not in answer.cookies


def test_the_switch_posts_with_a_token(db):
    client = Client(enforce_csrf_checks=True)
    assert client.post("/language/", {"language": "de"}).status_code == 403
    page = client.get("/accounts/login/").content.decode()
    form = page[page.index('action="/language/"') :]
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token
    answer = client.post("/language/", {"language": "de", "csrfmiddlewaretoken": token[1]})
    assert answer.status_code == 302


def test_the_ranking_page_speaks_german_in_all_it_says(project, bob):
    make_task(project)
    client = signed_in(bob)
    page = client.get(f"/projects/{project.slug}/rank", headers=GERMAN).content.decode()
    for words in ("Abgeben", "Überspringen", "Antwort A", "Antwort {letter} steht auf Platz {place}."):
        assert words in page
    assignment = bob.assignments.get()
    refused = client.post(
        f"/projects/{project.slug}/rank/{assignment.pk}/submit",
        {"token": assignment.token, "verdict": "ranked", "places": '[["A"], ["B"]]'},
        headers=GERMAN,
    )
    assert refused.status_code == 422
    assert refused.json()["message"] == "Diese Antworten haben noch keinen Platz: C, D."


def test_the_run_form_is_translated_though_its_arguments_know_no_django(project, alice):
    page = signed_in(alice).get(f"/projects/{project.slug}/runs/new/dpo", headers=GERMAN).content.decode()
    assert "Direkte Präferenzoptimierung" in page
    assert "Größte Schrittweite des Optimierers. <code>learning_rate</code>" in page


@pytest.mark.parametrize(
    ("language", "numbers"),
    [("en", ["12,345", "0.67", "−0.5", "0.00", "0.0001235"]), ("de", ["12.345", "0,67", "−0,5", "0,00", "0,0001235"])],
)
def test_numbers_are_written_as_the_language_writes_them(language, numbers):
    with translation.override(language):
        said = [grouped(12345), rounded(0.6666, 2), rounded(-0.46, 1), rounded(-0.001, 2), significant(0.00012346)]
    assert said == numbers


def test_files_are_in_english_whoever_loads_them(project, alice):
    client = signed_in(alice)
    client.post(f"/projects/{project.slug}/settings/state", {"state": "paused"})
    page = client.get(f"/projects/{project.slug}/audit", headers=GERMAN).content.decode()
    assert "alice hat geändert: „Status“ von Aktiv zu Pausiert." in page
    answer = client.get(f"/projects/{project.slug}/audit.csv", headers=GERMAN)
    assert "alice changed “State” from Active to Paused." in b"".join(answer).decode()
