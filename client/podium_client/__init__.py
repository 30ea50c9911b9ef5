"""Podium from Python: data in, rankings out, runs started and followed. docs/client.md shows the whole way by examples."""

from ._version import VERSION as __version__
from .checkpoints import Checkpoint, Reply
from .client import AsyncPodium, Me, Podium
from .datasets import ChangedRow, Dataset, Diff, Publication
from .errors import (
    ApiError,
    BadAnswer,
    InConflict,
    JobFailed,
    NotAllowed,
    NotFound,
    NotSignedIn,
    PodiumError,
    Refused,
    ServerFault,
    SettingsError,
    TooManyRequests,
    Unreachable,
    WaitedTooLong,
)
from .flows import Async, Sync
from .imports import Import, RefusedRow, RowsAdded
from .projects import Completion, Project, Prompt, RankedCompletion, Ranking
from .runs import Evaluation, Method, Metrics, Run
from .webhooks import BadSignature, Delivery, Webhook, verify

__all__ = [
    "ApiError",
    "Async",
    "AsyncPodium",
    "BadAnswer",
    "BadSignature",
    "ChangedRow",
    "Checkpoint",
    "Completion",
    "Dataset",
    "Delivery",
    "Diff",
    "Evaluation",
    "Import",
    "InConflict",
    "JobFailed",
    "Me",
    "Method",
    "Metrics",
    "NotAllowed",
    "NotFound",
    "NotSignedIn",
    "Podium",
    "PodiumError",
    "Project",
    "Prompt",
    "Publication",
    "RankedCompletion",
    "Ranking",
    "Refused",
    "RefusedRow",
    "Reply",
    "RowsAdded",
    "Run",
    "ServerFault",
    "SettingsError",
    "Sync",
    "TooManyRequests",
    "Unreachable",
    "WaitedTooLong",
    "Webhook",
    "__version__",
    "verify",
]
