"""Typed keyword-only models that refuse what pydantic with extra="forbid" refuses: unknown names and wrong types.

Stricter than pydantic in one thing: it takes "1" for an int, and this does not.

In TensorRT-LLM 1.2 they derive from `StrictBaseModel` (tensorrt_llm/llmapi/utils.py); pydantic's ValidationError is a
ValueError.
"""

from __future__ import annotations

import copy
import types
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints


def accepts(kind: Any, value: Any) -> bool:
    """Whether `value` may stand where `kind` is annotated; a bool is no int, an int is a float."""
    origin = get_origin(kind)
    if kind is Any or kind is object:
        return True
    if origin in (Union, types.UnionType):
        return any(accepts(part, value) for part in get_args(kind))
    if origin is Literal:
        return value in get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(accepts(get_args(kind)[0], item) for item in value)
    if kind is None or kind is type(None):
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


class Strict:
    """Fields are the annotated class attributes; every one here has a default, as it has there."""

    ignore_unknown: ClassVar[bool] = False
    model_fields: ClassVar[dict[str, Any]] = {}
    kinds: ClassVar[dict[str, Any]] = {}  # what each field may hold

    def __init_subclass__(cls) -> None:
        names = [name for name in cls.__annotations__ if name != "ignore_unknown"]
        own = {name: types.SimpleNamespace(default=getattr(cls, name)) for name in names}
        cls.model_fields = {**cls.model_fields, **own}
        cls.kinds = {name: kind for name, kind in get_type_hints(cls).items() if get_origin(kind) is not ClassVar}

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self.kinds and not self.ignore_unknown:
                raise ValueError(f"{type(self).__name__}: extra inputs are not permitted: {name}")
        for name in self.kinds:
            default = getattr(type(self), name)
            setattr(self, name, values.get(name, copy.deepcopy(default)))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.kinds:
            raise ValueError(f"{type(self).__name__} object has no field {name!r}")
        if not accepts(self.kinds[name], value):
            raise ValueError(f"{type(self).__name__}.{name}: {value!r} is not {self.kinds[name]}")
        object.__setattr__(self, name, value)
