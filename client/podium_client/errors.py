"""What can go wrong, as exceptions. All of them are PodiumError."""

from collections.abc import Mapping
from typing import Any


class PodiumError(Exception):
    """Anything that this package reports."""


class SettingsError(PodiumError):
    """The address or the token is missing, or is not one to be used."""


class Unreachable(PodiumError):
    """The server did not answer. `was_sent` is False where the request cannot have reached it."""

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        self.was_sent = was_sent
        super().__init__(message)


class BadAnswer(PodiumError):
    """The server's answer is not what this package knows how to read."""


class WaitedTooLong(PodiumError, TimeoutError):
    """What was waited for did not come within the timeout. It may still come."""


class JobFailed(PodiumError):
    """An import, a dataset, a run or a reply failed or was cancelled; `job` is how it ended."""

    def __init__(self, message: str, job: Any) -> None:
        self.job = job
        super().__init__(message)


class ApiError(PodiumError):
    """The server refused: problem+json (RFC 9457). `errors` maps fields to what is wrong with them."""

    def __init__(self, status: int, title: str, detail: str, errors: Mapping[str, list[str]] | None = None) -> None:
        self.status, self.title, self.detail = status, title, detail
        self.errors: dict[str, list[str]] = dict(errors or {})
        fields = "".join(f"\n  {name}: {' '.join(texts)}" for name, texts in self.errors.items())
        super().__init__(f"{detail or title} ({status}){fields}")


class NotSignedIn(ApiError):
    """401: no token, or one that expired or was revoked."""


class NotAllowed(ApiError):
    """403: the token's permissions or one's role do not allow it."""


class NotFound(ApiError):
    """404: there is no such thing, or not for this token's owner."""


class InConflict(ApiError):
    """409: it cannot be done as things are just now."""


class Refused(ApiError):
    """422 or 400: something about the request is wrong; `errors` says what."""


class TooManyRequests(ApiError):
    """429, after having waited as often as was allowed."""


class ServerFault(ApiError):
    """5xx: the server could not do it."""


KINDS: dict[int, type[ApiError]] = {
    400: Refused,
    401: NotSignedIn,
    403: NotAllowed,
    404: NotFound,
    409: InConflict,
    413: Refused,
    422: Refused,
    429: TooManyRequests,
}
