"""Refuse a request body that is too large before any of it is written to the disk."""

from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadhandler import TemporaryFileUploadHandler


class LimitedUploadHandler(TemporaryFileUploadHandler):
    """Files go to temporary files, as Django's own handler does, and only from people who are signed in.

    The check of the CSRF token parses the body before any view runs, so a view could only refuse what is already written.
    """

    def handle_raw_input(
        self,
        input_data: IO[bytes],
        META: dict[str, str],
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> Any:
        request = self.request
        limit = settings.UPLOAD_LIMIT_BYTES if request is not None and request.user.is_authenticated else 0
        if content_length > limit + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise RequestDataTooBig(f"the request has {content_length} bytes, {limit} are allowed")
