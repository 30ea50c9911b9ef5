"""podium run …"""

from typing import Annotated

import typer

from podium_client.client import Podium
from podium_client.runs import Run

from .datasets import version
from .output import Json, hint, say, settings, show, table
from .projects import Slug, Timeout

app = typer.Typer()
Id = Annotated[int, typer.Argument(metavar="RUN", help="Its number.")]
SHOWN = ("id", "method", "state", "step", "total_steps", "dataset", "inputs", "note", "metrics", "checkpoints", "error")


@app.command()
def start(
    project: Slug,
    method: Annotated[str, typer.Argument(help="sft, reward, dpo, …: podium methods.")],
    dataset: Annotated[str, typer.Option(help="Number or tag of a dataset version.")] = "",
    input: Annotated[list[str] | None, typer.Option(help="ROLE=CHECKPOINT: policy=base.")] = None,
    set: Annotated[list[str] | None, typer.Option(help="ARGUMENT=VALUE: learning_rate=1e-6.")] = None,
    note: str = "",
    follow: Annotated[bool, typer.Option("--follow", help="Show what it measures until it ends.")] = False,
    as_json: Json = False,
) -> None:
    """Start a run."""
    inputs = {role: str(name) for role, name in settings(input or []).items()}
    with Podium() as podium:
        place = podium.project(project)
        frozen = place.dataset(version(dataset)) if dataset else None
        run = place.start_run(method, dataset=frozen, inputs=inputs, arguments=settings(set or []), note=note)
        if follow:
            hint(f"Run {run.id} is queued.")
            _follow(run, as_json)
        else:
            show(run, as_json, *SHOWN)


@app.command()
def follow(project: Slug, id: Id, timeout: Timeout = None, as_json: Json = False) -> None:
    """What a run measures, as it comes. Ctrl-C leaves the run going."""
    with Podium() as podium:
        _follow(podium.project(project).run(id), as_json, timeout)


@app.command("list")
def list_(project: Slug, method: str = "", state: str = "", as_json: Json = False) -> None:
    """Runs, newest first."""
    with Podium() as podium:
        found = podium.project(project).runs(method=method, state=state)
        table(found, as_json, "id", "method", "state", "step", "total_steps", "dataset", "note")


@app.command("show")
def show_one(project: Slug, id: Id, as_json: Json = False) -> None:
    with Podium() as podium:
        show(podium.project(project).run(id), as_json, *SHOWN)


@app.command()
def cancel(project: Slug, id: Id, as_json: Json = False) -> None:
    """Stop a run."""
    with Podium() as podium:
        show(podium.project(project).run(id).cancel(), as_json, "id", "state")


def _follow(run: Run, as_json: bool, timeout: float | None = None) -> None:
    for metrics in run.follow(timeout=timeout):
        if as_json:
            show(metrics, True)
        else:
            figures = "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.values.items()))
            say(f"step {metrics.step}  {figures}")
    if not as_json:
        show(run.refresh(), False, "state", "metrics", "checkpoints")
