"""Tokens by which scripts sign in."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from annotate.models import ApiToken, Project, StoredResponse, User, record

PREFIX = "podium_"
DAYS_MAX = 366
RESPONSE_DAYS = 30

# Finds the token, counts the request and notes its time in one statement, so that a limit holds over all processes.
USE = """
UPDATE annotate_apitoken t SET last_used_at = now(), minute = date_trunc('minute', now()),
    requests = CASE WHEN t.minute = date_trunc('minute', now()) THEN t.requests + 1 ELSE 1 END
FROM annotate_user u
WHERE t.token_hash = %s AND t.revoked_at IS NULL AND t.expires_at > now() AND u.id = t.user_id AND u.is_active
RETURNING t.*
"""


def hash_token(token: str) -> str:
    """What `ApiToken.token_hash` holds. A token has 256 random bits, so that one fast hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


@transaction.atomic
def create_token(
    *, user: User, name: str, scopes: Sequence[str], days: int, project: Project | None = None
) -> tuple[ApiToken, str]:
    """The token's row and the token, which is stored nowhere."""
    token = PREFIX + secrets.token_urlsafe(32)
    made = ApiToken.objects.create(
        user=user,
        name=name,
        token_hash=hash_token(token),
        hint=token[-4:],
        scopes=sorted(set(scopes)),
        project=project,
        expires_at=timezone.now() + timedelta(days=days),
    )
    record(user, "token.created", f"token:{made.pk}", project=project, name=name, scopes=made.scopes, days=days)
    return made, token


@transaction.atomic
def revoke_token(*, token: ApiToken) -> None:
    """From here on it opens nothing. Twice is once."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
        record(token.user, "token.revoked", f"token:{token.pk}", project=token.project, name=token.name)


def forget_responses() -> int:
    """Delete stored answers that nobody will ask for again. Returns how many."""
    old = StoredResponse.objects.filter(created_at__lt=timezone.now() - timedelta(days=RESPONSE_DAYS))
    return old.delete()[0]


def use_token(token: str) -> ApiToken | None:
    """The token if it works, its request counted in `requests`."""
    return next(iter(ApiToken.objects.raw(USE, [hash_token(token)])), None)
