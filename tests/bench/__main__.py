"""`make bench`: measure, print a table, write JSON. A figure is never a pass or a failure.

    make bench                        every group
    make bench ONLY=web               one of them, or several: ONLY=web,page
    make bench OUT=figures.json       where the JSON goes (bench.json by default)

Each group runs in a process of its own, on a fresh copy of a migrated database, beside real services that keep what they
acknowledge as they do in production.
"""

import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dj_database_url
import psycopg
from psycopg import sql

from config.embedded import throwaway_services

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("web", "api", "assignment", "page", "data", "reward", "dpo", "rl", "startup", "gpu")
PACKAGES = ("Django", "psycopg", "celery", "gunicorn", "pyarrow", "torch", "transformers", "trl")


def main() -> int:
    only = [name for name in os.environ.get("ONLY", "").replace(",", " ").split() if name]
    if unknown := sorted(set(only) - set(GROUPS)):
        print(f"There is no group {', '.join(unknown)}; the groups are {', '.join(GROUPS)}.", file=sys.stderr)
        return 2
    out = Path(os.environ.get("OUT") or "bench.json")
    figures: list[dict[str, Any]] = []
    failed = []
    with throwaway_services({}, durable=True) as services:
        environment = {
            **os.environ,
            **services,
            "SECRET_KEY": "for-the-benchmarks-alone-never-for-a-server",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "HF_HUB_OFFLINE": "1",
            "DJANGO_ALLOW_ASYNC_UNSAFE": "1",
        }
        environment.pop("STORAGE_ROOT", None)
        subprocess.run([sys.executable, "manage.py", "prepare"], cwd=ROOT, env=environment, check=True)
        for group in only or GROUPS:
            if find_spec(f"tests.bench.{group}") is None:
                print(f"{group}: not there yet", flush=True)
                continue
            print(f"{group} …", flush=True)
            began = time.monotonic()
            with database_for(group, environment["DATABASE_URL"]) as url:
                measured = run_group(group, {**environment, "DATABASE_URL": url})
            if measured is None:
                failed.append(group)
            else:
                figures += measured
                print_table(measured)
            print(f"{group} took {time.monotonic() - began:.0f} s", flush=True)
    report = {"commit": commit(), "machine": machine(), "versions": versions(), "figures": figures}
    out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{len(figures)} figures are in {out}")
    if failed:
        print(f"Broke off, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def database_for(group: str, url: str) -> Iterator[str]:
    """A copy of the migrated database, dropped again, so that no group finds another's rows."""
    parsed = dj_database_url.parse(url)
    given: dict[str, Any] = {
        "host": parsed["HOST"],
        "port": parsed["PORT"],
        "user": parsed["USER"],
        "password": parsed["PASSWORD"],
    }
    copy = sql.Identifier(f"bench_{group}")
    with psycopg.connect(**given, dbname="postgres", autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(copy, sql.Identifier(parsed["NAME"])))
        try:
            yield f"{url.rpartition('/')[0]}/bench_{group}"
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(copy))


def run_group(group: str, environment: dict[str, str]) -> list[dict[str, Any]] | None:
    """The group's figures, measured in a fresh process; None if it broke off."""
    with tempfile.NamedTemporaryFile("r") as result:
        command = [sys.executable, "-m", "tests.bench", "--group", group, result.name]
        if subprocess.run(command, cwd=ROOT, env=environment).returncode:
            return None
        figures: list[dict[str, Any]] = json.load(result)
        return figures


def measure(group: str, result: str) -> None:
    """In the group's own process."""
    import django

    django.setup()
    figures = importlib.import_module(f"tests.bench.{group}").run()
    Path(result).write_text(json.dumps([asdict(figure) for figure in figures]))


def print_table(figures: list[dict[str, Any]]) -> None:
    for figure in figures:
        against = f"  against {figure['against']}" if figure["against"] else ""
        spread = f"  ({figure['spread']})" if figure["spread"] else ""
        print(f"  {figure['name']:<32}{figure['value']:>12.4g} {figure['unit']:<12}{spread}{against}", flush=True)


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    try:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    except OSError:
        pass
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--group"]:
        measure(*sys.argv[2:])
    else:
        sys.exit(main())
