from .audit import AuditEvent, record
from .datasets import DatasetVersion, Publication
from .imports import Import, ImportedRanking, RefusedRow
from .projects import DEFAULT_CRITERIA, K_MAX, K_MIN, RATING_MAX, Invitation, Membership, Project
from .prompts import Completion, Demonstration, Prompt, Source, completion_hash, content_hash, split_of
from .quality import QualityReport
from .rankings import RankedCompletion, Ranking
from .tasks import PRIORITY_MAX, QUEUE_ORDER, Assignment, Flag, KnownOrder, RankingTask, TaskCompletion
from .tokens import ApiToken, StoredResponse
from .users import User, imported_user
from .webhooks import Delivery, OutboxEvent, Webhook

__all__ = [
    "DEFAULT_CRITERIA",
    "K_MAX",
    "K_MIN",
    "PRIORITY_MAX",
    "QUEUE_ORDER",
    "RATING_MAX",
    "ApiToken",
    "Assignment",
    "AuditEvent",
    "Completion",
    "DatasetVersion",
    "Delivery",
    "Demonstration",
    "Flag",
    "Import",
    "ImportedRanking",
    "Invitation",
    "KnownOrder",
    "Membership",
    "OutboxEvent",
    "Project",
    "Prompt",
    "Publication",
    "QualityReport",
    "RankedCompletion",
    "Ranking",
    "RankingTask",
    "RefusedRow",
    "Source",
    "StoredResponse",
    "TaskCompletion",
    "User",
    "Webhook",
    "completion_hash",
    "content_hash",
    "imported_user",
    "record",
    "split_of",
]
