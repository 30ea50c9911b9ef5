"""The fixtures that start real processes do what they promise."""

import pytest

from config.celery import app


def test_a_worker_answers(worker):
    assert app.control.ping(timeout=5)


@pytest.mark.browser
def test_a_page_opens_at_the_size_and_in_the_scheme_that_was_asked_for(open_page):
    page = open_page(viewport=(390, 844), color_scheme="dark")
    response = page.goto("/accounts/login/")
    assert response is not None
    assert response.status == 200
    assert page.evaluate("innerWidth") == 390
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")


@pytest.mark.browser
def test_a_broken_content_security_policy_is_noticed(open_page):
    page = open_page()
    page.goto("/accounts/login/")
    open_page.problems.clear()
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    page.wait_for_timeout(50)
    assert "Content Security Policy" in open_page.problems[0]
    open_page.problems.clear()
