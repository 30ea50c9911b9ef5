"""Starts a recipe in several processes, one per device, by accelerate's own launcher, and ends as the recipe would end in one.

    python -m training.recipes.launch PROCESSES MODULE RUN_DIR

ACCELERATE_CONFIG_FILE in the environment names a configuration of accelerate's (FSDP, DeepSpeed); without it the processes share the
work by DDP. SIGTERM reaches all of them at once. As soon as one ends badly the others are ended, too.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from training.recipes.run_folder import FAILED, INTERRUPTED, NO_SPACE, RunFolder

KILLED = "The process was killed from outside, most likely by the system because its memory ran out."


def main() -> NoReturn:
    if len(sys.argv) != 4 or not Path(sys.argv[3], "args.json").is_file():
        sys.exit("usage: python -m training.recipes.launch PROCESSES MODULE RUN_DIR, a folder with an args.json")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    processes, module, folder = int(sys.argv[1]), sys.argv[2], RunFolder(Path(sys.argv[3]).resolve(), inputs={})
    (folder.path / FAILED).unlink(missing_ok=True)
    devices = torch.cuda.device_count()
    if 0 < devices < processes:
        folder.error(
            "bad_arguments",
            f"num_processes is {processes}, but the worker sees {devices} GPUs: each process needs one of its own.",
        )
        sys.exit(1)
    configuration = os.environ.get("ACCELERATE_CONFIG_FILE")
    command = [
        *(["--config_file", configuration] if configuration else ["--multi_gpu", "--mixed_precision", "no"]),
        *("--num_processes", str(processes), "--num_machines", "1", "--dynamo_backend", "no", "--main_process_port", "0"),
        *("--module", module, str(folder.path)),
    ]  # fmt: skip
    try:
        launch_command(launch_command_parser().parse_args(command))
    except SignalException:
        sys.exit(INTERRUPTED)
    except ChildFailedError as error:
        sys.exit(exit_code(folder, [failure.exitcode for failure in error.failures.values()]))
    sys.exit(0)


def exit_code(folder: RunFolder, codes: list[int]) -> int:
    """What the failed processes' codes say together. Negative ones stand for signals, of which SIGKILL alone cannot be a consequence."""
    if -signal.SIGKILL in codes:
        folder.error("out_of_memory", KILLED)
        return 1
    if (folder.path / FAILED).exists():
        return NO_SPACE if NO_SPACE in codes else 1
    if set(codes) == {INTERRUPTED}:
        return INTERRUPTED
    first = next(code for code in codes if code != INTERRUPTED)
    return first if first > 0 else 128 - first


if __name__ == "__main__":
    main()
