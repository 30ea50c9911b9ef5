"""How the server's JSON becomes frozen dataclasses: unknown fields are kept in `raw`, missing ones get their defaults."""

import types
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Self, Union, get_args, get_origin, get_type_hints

from .errors import BadAnswer
from .flows import M

if TYPE_CHECKING:
    from .transports import Session


@dataclass(frozen=True, kw_only=True)
class Data:
    """Something as the server told it. `raw` is what it said, whole."""

    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, raw: Any, **more: Any) -> Self:
        if not isinstance(raw, dict):
            raise BadAnswer(f"The server told no {cls.__name__}, but {str(raw)[:80]!r}.")
        values: dict[str, Any] = {"raw": raw, **more}
        hints = _hints(cls)
        for one in fields(cls):
            if one.name in values:
                continue
            if one.name in raw:
                try:
                    values[one.name] = _convert(hints[one.name], raw[one.name])
                except (TypeError, ValueError) as error:
                    raise BadAnswer(f"The server's {cls.__name__} has an odd “{one.name}”: {error}") from error
            elif one.default is MISSING and one.default_factory is MISSING:
                raise BadAnswer(f"The server's {cls.__name__} lacks “{one.name}”.")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Bound(Data, Generic[M]):
    """Something that can be asked for more, by the session that it came through."""

    session: "Session" = field(repr=False, compare=False)

    def _same(self, raw: Any) -> Self:
        """The like of it as the server tells it now."""
        return type(self).read(raw, session=self.session)


@dataclass(frozen=True, kw_only=True)
class InProject(Bound[M]):
    project: str

    def _same(self, raw: Any) -> Self:
        return type(self).read(raw, session=self.session, project=self.project)


def _hints(kind: type[Data]) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind, localns={"Session": object})
    return _HINTS[kind]


_HINTS: dict[type[Data], dict[str, Any]] = {}


def _convert(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) in (Union, types.UnionType):
        hint = next((one for one in get_args(hint) if one is not type(None)), Any)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        return [_convert(inner, one) for one in value]
    if isinstance(hint, type) and issubclass(hint, Data):
        return hint.read(value)
    return value
