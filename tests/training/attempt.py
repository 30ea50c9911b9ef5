"""One attempt at a run in a process of its own, which a test can kill: python -m tests.training.attempt RUN_ID.

Starts the script recipe where the worker would start the method's. SIGTERM plays the worker's shutdown.
"""

import os
import signal
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from training import process, supervise  # noqa: E402

SCRIPT = "tests.training.script_recipe"


def main() -> None:
    command = process.recipe_command
    process.recipe_command = lambda module, folder, *_: command(SCRIPT, folder)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    supervise.attempt_run(int(sys.argv[1]), shutting_down=lambda: bool(asked))


if __name__ == "__main__":
    main()
