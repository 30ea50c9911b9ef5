"""A recipe of several ranks that computes nothing: what it does stands in RANKED. Started by training.recipes.launch."""

import os
import signal
import sys
import time

from training.recipes import ranks
from training.recipes.run_folder import INTERRUPTED, RunFailed, RunFolder, main


def ranked(folder: RunFolder, _arguments: object) -> None:
    wanted = os.environ["RANKED"]
    folder.note("here")
    (folder.path / f"rank-{ranks.rank()}").write_text(str(os.getpid()))
    if wanted == "end":
        return
    if wanted == "fail" and ranks.rank() == 1:
        raise RunFailed("nan_loss", "rank 1")
    if wanted == "kill" and ranks.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    while not asked and not (wanted == "fail" and (folder.path / "failed").exists()):
        time.sleep(0.02)
    if wanted == "fail":
        raise RunFailed("crash", "what the end of rank 1 did to rank 0")
    (folder.path / f"saved-{ranks.rank()}").touch()
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main("sft", ranked)
