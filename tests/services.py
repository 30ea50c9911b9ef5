"""Pytest plugin, loaded first: real Postgres and a real broker for the suite, before Django reads its settings.

What DATABASE_URL and BROKER_URL name is used; what they do not name is started in a temporary folder and removed at the end.
Where tests run side by side (`pytest -n 2`), the processes share both servers: each has a database of its own, which
pytest-django sees to, a numbered database of the broker, and a folder.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from config.embedded import throwaway_services

services = ExitStack()


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Iterator[None]:
    """A wrapper, so that it comes before pytest-django's own hook, which reads the settings."""
    given = services.enter_context(throwaway_services(os.environ))
    if number := re.search(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", "")):
        os.environ["BROKER_URL"] = nth_broker(os.environ["BROKER_URL"], int(number[0]))
    for name in ("STORAGE_ROOT", "DEBUG", "HTTPS", "BEHIND_PROXY", "TRUSTED_PROXY_COUNT", "ALLOWED_HOSTS"):
        os.environ.pop(name, None)
    os.environ.update(
        given,
        SECRET_KEY="for-the-tests-alone-never-for-a-server",
        STATIC_ROOT=f"{given['PODIUM_HOME']}/static",
        HF_HUB_OFFLINE="1",
        # As many processes as cores run tests already.
        OMP_NUM_THREADS="1",
        # Playwright's synchronous API runs an event loop in the tests' thread, beside which Django would refuse queries.
        DJANGO_ALLOW_ASYNC_UNSAFE="1",
    )
    return (yield)


def nth_broker(url: str, number: int) -> str:
    """The broker's next database but `number`."""
    base = re.search(r"virtual_host=(\d+)|/(\d+)$", url)
    assert base, f"BROKER_URL names no database: {url}"
    group = 1 if base[1] else 2
    return f"{url[: base.start(group)]}{int(base[group]) + number}{url[base.end(group) :]}"


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    services.close()
