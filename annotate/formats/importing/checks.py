"""What every text, name, number and object of a row must satisfy, whatever field it stands in."""

import json
import re
from typing import Any, NoReturn

from django.utils.translation import gettext as _

from annotate.numbers import grouped

from .errors import MAX_METADATA, MAX_TEXT, RowError

NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Line breaks and other controls, and the marks that turn the direction of the text around them: a name that holds one looks like another.
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def checked_text(value: Any, name: str, limit: int = MAX_TEXT, *, empty: bool = False) -> str:
    """`value` if it is text that Postgres holds, of at most `limit` bytes; RowError otherwise."""
    if not isinstance(value, str):
        raise RowError(name, _("Must be text, not %(kind)s.") % {"kind": kind_of_value(value)})
    if not empty and (not value or value.isspace()):
        raise RowError(name, _("Is empty."))
    size = len(value)
    if not value.isascii():
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raw = "\udc80" <= value[error.start] <= "\udcff"
            reason = _("Not valid UTF-8.") if raw else _("Contains half of a character (a lone surrogate).")
            raise RowError(name, reason) from error
    if "\0" in value:
        raise RowError(name, _("Contains a NUL character."))
    if size > limit:
        raise RowError(
            name,
            _("Is %(size)s bytes long; at most %(limit)s are taken.")
            % {"size": grouped(size), "limit": grouped(limit)},
        )
    return value


def checked_name(value: Any, name: str, limit: int, *, empty: bool = False) -> str:
    """Text that people know something by: a source, a tag, an annotator. What it holds can be seen."""
    text = checked_text(value, name, limit, empty=empty)
    if not text.isprintable() and HIDDEN.search(text):
        raise RowError(name, _("Contains a line break, a control character or a mark that turns the text's direction."))
    return text


def checked_json(value: dict[str, Any], name: str) -> str:
    """`value` as JSON text that Postgres holds, of at most 64 kB."""
    if not value:
        return "{}"
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
        size = len(text.encode())
    except (ValueError, RecursionError, TypeError) as error:
        raise RowError(name, _("Holds a value that JSON has no form for.")) from error
    if NUL_ESCAPE.search(text):
        raise RowError(name, _("Contains a NUL character."))
    if size > MAX_METADATA:
        raise RowError(
            name, _("Is %(size)s bytes long; at most %(limit)s are taken.") % {"size": size, "limit": MAX_METADATA}
        )
    return text


def parse_json(text: str) -> Any:
    """JSON as its standard has it: no NaN, no Infinity, and no nesting beyond Python's. Raises ValueError."""
    try:
        return DECODER.decode(text)
    except RecursionError as error:
        raise ValueError(_("nested too deeply")) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(_("%(name)s is no JSON value") % {"name": name})


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def kind_of_value(value: Any) -> str:
    names = {dict: _("an object"), list: _("a list"), bool: _("true or false"), type(None): _("nothing")}
    return names.get(type(value), _("a number"))
