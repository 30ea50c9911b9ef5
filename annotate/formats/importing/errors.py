"""What can be wrong with a file, and how much of it is read."""

from django.utils.translation import gettext as _

CHUNK = 256 * 1024
MAX_LINE = 16 * 1024**2
# Of a longer line only its beginning is kept, for the report of refused rows.
HEAD = 64 * 1024
MAX_COLUMNS = 1000
MAX_TEXT = 1_000_000
MAX_METADATA = 64 * 1024
MAX_EXPLANATION = 20_000
# No real text packs better than this; what does is a decompression bomb.
MAX_RATIO = 250
RATIO_CHECKED_FROM = 64 * 1024**2


class FileError(Exception):
    """The file cannot be read, or not to its end. What came before is kept."""


class RowError(Exception):
    """One row cannot be taken; the others can."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


class UnknownColumns(RowError):
    """The row has nothing in it that is known to be a prompt."""


def printable(text: str, limit: int) -> str:
    """`text` as Postgres and a page can hold it: no NUL, no lone surrogates, at most `limit` characters."""
    return text[:limit].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def unpacks_beyond() -> str:
    return _("The file unpacks to more than %(ratio)d times its size, which no real text does.") % {"ratio": MAX_RATIO}
