"""Columns of a query straight from Postgres into numpy and Arrow, without a Python object for each value.

Each column comes as one value of bytes: numbers in Postgres's binary form, texts one behind the other beside their lengths.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from django.db import connection
from numpy.typing import NDArray

Array = NDArray[Any]
# Postgres counts microseconds from 2000, Arrow from 1970.
EPOCH = 946_684_800_000_000
NUMBERS = {"int4": ">i4", "int8": ">i8", "float8": ">f8"}


def number(expression: str, kind: str) -> str:
    """A column of `kind`: int4, int8 or float8."""
    return f"string_agg({kind}send({expression}), ''::bytea)"


def moment(expression: str) -> str:
    """A column of times; read as int8, see `to_moments`."""
    return f"string_agg(timestamptz_send({expression}), ''::bytea)"


def digest(expression: str, octets: int) -> str:
    """A column of `octets` bytes each, given in hex."""
    return f"string_agg(decode({expression}, 'hex'), ''::bytea)" if octets else expression


def text(expression: str) -> str:
    """A column of texts, which are two values: lengths and contents."""
    return (
        f"string_agg(int4send(octet_length({expression})), ''::bytea), "
        f"string_agg(convert_to({expression}, 'UTF8'), ''::bytea)"
    )


def read(sql: str, values: dict[str, Any]) -> tuple[Any, ...]:
    """The one row of the query, with bytes as they are."""
    with connection.wrap_database_errors:
        row: tuple[Any, ...] | None = psycopg.Cursor(connection.connection).execute(sql, values, binary=True).fetchone()
    return row or ()


def to_numbers(value: bytes | None, kind: str) -> Array:
    return np.frombuffer(value or b"", NUMBERS[kind]).astype(NUMBERS[kind][1:])


def to_digests(value: bytes | None, octets: int) -> Array:
    return np.frombuffer(value or b"", f"V{octets}")


def to_hex(digests: Array) -> pa.StringArray:
    width = 2 * digests.dtype.itemsize
    data = digests.tobytes().hex().encode()
    return _strings(np.arange(len(digests) + 1, dtype=np.int32) * width, data)


def to_moments(value: bytes | None) -> Array:
    """Microseconds since 1970."""
    return to_numbers(value, "int8") + EPOCH


def to_texts(lengths: bytes | None, contents: bytes | None) -> tuple[pa.StringArray, Array]:
    """(the texts, their lengths in bytes)."""
    sizes = to_numbers(lengths, "int4")
    return _strings(offsets_of(sizes), contents or b""), sizes


def offsets_of(counts: Array | Sequence[int]) -> Array:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _strings(offsets: Array, data: bytes) -> pa.StringArray:
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
