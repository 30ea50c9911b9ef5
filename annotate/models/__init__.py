from .audit import AuditEvent, record
from .datasets import DatasetVersion
from .imports import Import, RefusedRow
from .projects import K_MAX, K_MIN, Membership, Project
from .prompts import Completion, Demonstration, Prompt, Source, completion_hash, content_hash
from .rankings import RankedCompletion, Ranking
from .tasks import Assignment, Flag, RankingTask, TaskCompletion
from .users import User

__all__ = [
    "K_MAX",
    "K_MIN",
    "Assignment",
    "AuditEvent",
    "Completion",
    "DatasetVersion",
    "Demonstration",
    "Flag",
    "Import",
    "Membership",
    "Project",
    "Prompt",
    "RankedCompletion",
    "Ranking",
    "RankingTask",
    "RefusedRow",
    "Source",
    "TaskCompletion",
    "User",
    "completion_hash",
    "content_hash",
    "record",
]
