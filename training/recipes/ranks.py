"""A run in several processes, one per device: who speaks for all, and what they settle together.

accelerate's launcher names each process's rank in the environment. Without it there is one process, and nothing here does anything.
Torch is imported where it is needed: a recipe's frame goes without.
"""

import ctypes
import os
import signal
import sys
from typing import Any, TypeVar

T = TypeVar("T")

PR_SET_PDEATHSIG = 1


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes events, results and notes."""
    return rank() == 0


def share_weights() -> bool:
    """Whether no process holds the whole model, so that none can sample by itself: FSDP, or DeepSpeed's stage 3."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"


def die_with_launcher() -> None:
    """The launcher starts each rank in a session of its own, which no signal to the launcher's reaches."""
    if count() > 1 and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def take_one_device() -> None:
    """A single process works on one GPU, the first that it may see: TRL refuses to spread it over several by threads."""
    if count() == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def gather(value: T) -> list[T]:
    """Every rank's value, in the order of ranks. All ranks must come here."""
    if count() == 1:
        return [value]
    import torch.distributed

    values: list[Any] = [None] * count()
    torch.distributed.all_gather_object(values, value)
    return values


def wait() -> None:
    """Until all ranks are here. Before they know each other nothing is written that another would read."""
    if count() > 1:
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.barrier()


def any_rank(flag: bool) -> bool:
    """Whether it is so on any rank. All ranks must come here, as often as each other."""
    if count() == 1:
        return flag
    import torch
    import torch.distributed

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    flags = torch.tensor([int(flag)], device=device)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return bool(flags.item())
