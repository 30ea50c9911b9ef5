"""What leaves a dataset version: its rows in the shapes that trainers and other tools read, as files of several formats.

Everything is streamed from the version's own Parquet files, a few megabytes at a time. pyarrow is loaded when it is needed: it costs
the web process 40 MB that most of its requests do not need.
"""

from .files import count_rows, stream_export
from .loading import loading_lines
from .options import (
    CONTENT_TYPES,
    DESIRABLE,
    FORMATS,
    REASONING,
    SHAPES,
    SPLITS,
    TRAINABLE,
    Export,
    InvalidExport,
    export_name,
    is_weighted,
)
from .stored import stored_rows

__all__ = [
    "CONTENT_TYPES",
    "DESIRABLE",
    "FORMATS",
    "REASONING",
    "SHAPES",
    "SPLITS",
    "TRAINABLE",
    "Export",
    "InvalidExport",
    "count_rows",
    "export_name",
    "is_weighted",
    "loading_lines",
    "stored_rows",
    "stream_export",
]
