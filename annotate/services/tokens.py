"""Tokens by which scripts sign in."""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic, time

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from annotate.models import ApiToken, Project, StoredResponse, User, record

from . import moments

PREFIX = "podium_"
DAYS_MAX = 366
RESPONSE_DAYS = 30

# Finds the token, counts requests and notes the time in one statement, so that a limit holds over all processes.
USE = """
UPDATE annotate_apitoken t SET last_used_at = now(), minute = date_trunc('minute', now()),
    requests = %(count)s + CASE WHEN t.minute = date_trunc('minute', now()) THEN t.requests ELSE 0 END
FROM annotate_user u
WHERE t.token_hash = %(hash)s AND t.revoked_at IS NULL AND t.expires_at > now() AND u.id = t.user_id AND u.is_active
RETURNING t.*
"""


@dataclass
class Use:
    """A token that worked at `since`, and its requests in this minute as far as this process knows."""

    token: ApiToken
    requests: int
    since: float
    minute: int
    uncounted: int = 0


_uses: dict[str, Use] = {}


def hash_token(token: str) -> str:
    """What `ApiToken.token_hash` holds. A token has 256 random bits, so that one fast hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


@transaction.atomic
def create_token(
    *, user: User, name: str, scopes: Sequence[str], days: int, project: Project | None = None, once: str = ""
) -> tuple[ApiToken, str]:
    """The token's row and the token, which is stored nowhere. The same `once` again, as by a double click, gives the same."""
    secret = salted_hmac(
        "annotate.token", f"{user.pk}:{once or secrets.token_urlsafe(32)}", algorithm="sha256"
    ).digest()
    token = PREFIX + urlsafe_b64encode(secret).decode().rstrip("=")
    made, is_new = ApiToken.objects.get_or_create(
        token_hash=hash_token(token),
        defaults={
            "user": user,
            "name": name,
            "hint": token[-4:],
            "scopes": sorted(set(scopes)),
            "project": project,
            "expires_at": timezone.now() + timedelta(days=days),
        },
    )
    if is_new:
        record(user, "token.created", f"token:{made.pk}", project=project, name=name, scopes=made.scopes, days=days)
    return made, token


@transaction.atomic
def revoke_token(*, token: ApiToken) -> None:
    """From here on it opens nothing. Twice is once."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
        _uses.pop(token.token_hash, None)
        record(token.user, "token.revoked", f"token:{token.pk}", project=token.project, name=token.name)


def forget_responses() -> int:
    """Delete stored answers that nobody will ask for again. Returns how many."""
    old = StoredResponse.objects.filter(created_at__lt=timezone.now() - timedelta(days=RESPONSE_DAYS))
    return old.delete()[0]


def use_token(token: str, *, trusting: bool = False) -> Use | None:
    """The token if it works, this request counted.

    `trusting` takes the word of the last moment: no statement, but what was revoked meanwhile still works that long, and other
    processes learn of the request at the end of it.
    """
    key, now, minute = hash_token(token), monotonic(), int(time() // 60)
    known = _uses.get(key)
    if trusting and known and known.minute == minute and now - known.since < moments.SECONDS:
        known.requests += 1
        known.uncounted += 1
        return known
    count = 1 + (known.uncounted if known and known.minute == minute else 0)
    found = next(iter(ApiToken.objects.raw(USE, {"hash": key, "count": count})), None)
    if found is None:
        _uses.pop(key, None)
        return None
    if len(_uses) >= moments.KEPT:
        _uses.clear()
    use = _uses[key] = Use(found, found.requests, now, minute)
    return use
