"""Who may import whom: config → training → annotate, recipes apart from all. Asserted in fresh processes and in the source."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "transformers", "trl"}
# Reports are computed by the worker, which loads these once there is one to compute.
STATISTICS = {"numpy", "pyarrow", "scipy", "pandas", "evalica", "krippendorff"}


def modules_after(program: str) -> set[str]:
    """The names in sys.modules after the program ran in a process of its own."""
    program += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def imports_of(path: Path) -> Iterator[str]:
    """Every module that the file imports, those inside functions included, by absolute name."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join((*package[: len(package) - node.level + 1], node.module or "")) if node.level else node.module
            )
            assert base is not None
            yield base
            yield from (f"{base.rstrip('.')}.{alias.name}" for alias in node.names)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize(
    "program",
    [
        "from config.wsgi import application\nfrom django.urls import get_resolver\nget_resolver().url_patterns",
        "from config.celery import app\napp.loader.import_default_modules()",
    ],
    ids=["web", "worker"],
)
def test_neither_web_nor_worker_loads_torch_or_statistics(program):
    loaded = modules_after(program)
    assert "annotate.models" in loaded
    assert (HEAVY | STATISTICS) & loaded == set()


def test_a_recipe_s_arguments_load_neither_torch_nor_django():
    loaded = modules_after("import training.recipes.arguments")
    assert (HEAVY | {"django.db"}) & loaded == set()


@pytest.mark.parametrize("path", sources("annotate"), ids=lambda path: str(path.relative_to(ROOT)))
def test_annotate_knows_nothing_of_training_or_config(path):
    assert [name for name in imports_of(path) if within(name, "training") or within(name, "config")] == []


def test_only_recipes_import_recipes():
    """All others start them as processes; the plain dataclasses of `arguments` are for everybody."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources("annotate", "config", "training")
        if not path.is_relative_to(ROOT / "training" / "recipes")
        for name in imports_of(path)
        if within(name, "training.recipes")
        and not within(name, "training.recipes.arguments")
        and name != "training.recipes"
    ]
    assert wrong == []


@pytest.mark.parametrize("path", sources("training/recipes"), ids=lambda path: path.name)
def test_recipes_know_neither_django_nor_the_rest_of_the_project(path):
    wrong = [
        name
        for name in imports_of(path)
        if any(within(name, package) for package in ("django", "annotate", "config"))
        or (within(name, "training") and not within(name, "training.recipes") and name != "training")
    ]
    assert wrong == []
