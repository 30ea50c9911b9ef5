"""All commands, put together."""

from typing import Annotated

import typer

from podium_client._version import VERSION

from . import account, datasets, imports, projects, runs, talking, webhooks

app = typer.Typer(
    name="podium",
    help="Podium from the command line. Address and token: `podium login`, or PODIUM_URL and PODIUM_TOKEN.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Which version this is.")] = False) -> None:
    if version:
        print(VERSION)
        raise typer.Exit


def _group(name: str, about: str, commands: typer.Typer) -> None:
    app.add_typer(commands, name=name, help=about, no_args_is_help=True)


app.add_typer(account.app)
app.add_typer(projects.app)
app.add_typer(imports.app)
app.add_typer(talking.app)
_group("project", "Make and show projects.", projects.one)
_group("dataset", "Build, compare and download dataset versions.", datasets.app)
_group("run", "Start and follow runs.", runs.app)
_group("webhooks", "Addresses that are told what happens.", webhooks.app)
