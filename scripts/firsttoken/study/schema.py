"""The schema of the config: its defaults, and its errors in a person's words. Needs jsonschema, no torch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

LONGEST_ERROR = 270  # characters; a terminal's three lines
TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a finite number",
    "object": "a mapping of keys to values",
    "string": "text",
}


def _is_finite(_: object, value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


# JSON's 5.0 is an integer, and Python's nan a number that no limit refuses.
_Validator: type[jsonschema.Draft202012Validator] = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": lambda _, value: type(value) is int, "number": _is_finite}
    ),
)


class ConfigError(ValueError):
    """One line: the key, what was found, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """A message without line breaks, and without its middle where it is too long: its start names the key or file, its
    end says what to do."""
    message = " ".join(message.split())
    message = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)
    if len(message) <= LONGEST_ERROR:
        return message
    return f"{message[: LONGEST_ERROR - 105]} ... {message[-100:]}"


def load_schema(path: Path) -> dict[str, Any]:
    """The JSON Schema of the config, from its YAML file."""
    schema: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return schema


def with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    """A copy of `value` in which every missing optional key has the schema's default."""
    if not isinstance(value, Mapping):
        return value
    filled = dict(value)
    for key, rule in schema.get("properties", {}).items():
        if key not in filled and "default" in rule:
            filled[key] = rule["default"]
        if isinstance(filled.get(key), Mapping):
            filled[key] = with_defaults(filled[key], rule)
    return filled


def schema_problem(config: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """The first violation of the schema in one line, or None."""
    errors = _Validator(schema).iter_errors(config)
    error = min(errors, key=lambda error: [str(step) for step in error.path], default=None)
    if error is None:
        return None
    where = error.json_path.removeprefix("$").removeprefix(".") or "the config"
    where = where if len(where) <= 80 else where[:77] + "..."
    rule: Any = error.schema
    limit: Any = error.validator_value
    if error.validator == "additionalProperties":
        known = sorted(rule.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        inside = "" if where == "the config" else f" in {where}"
        return f"config key {shown(unknown)}{inside}: unknown; {suggestion(unknown, known)}"
    if error.validator == "required":
        missing = next(key for key in limit if key not in error.instance)
        inside = "" if where == "the config" else f"{where}."
        return f"config key {inside}{missing}: missing; add it (config/README.md explains every key)"
    if error.validator == "uniqueItems":
        twice = next(item for place, item in enumerate(error.instance) if item in error.instance[:place])
        return f"config key {where}: {shown(twice)} stands there twice; name each once"
    return f"config key {where}: found {shown(error.instance)}; {_wanted(error.validator, limit, rule)}"


def _wanted(validator: Any, limit: Any, rule: Mapping[str, Any]) -> str:
    """What a keyword of the schema asks for; `limit` is its value, and `rule` what it stands in."""
    match validator:
        case "minimum":
            return f"must be at least {limit:,}"
        case "exclusiveMinimum":
            return f"must be more than {limit:,}"
        case "maximum":
            return f"must be at most {limit:,}"
        case "minItems" | "minLength":
            return "must name at least one"
        case "maxItems" | "maxProperties":
            return f"must have at most {limit} entries"
        case "maxLength":
            return f"must have at most {limit} characters"
        case "type":
            names = [limit] if isinstance(limit, str) else limit
            return f"must be {' or '.join(TYPES[name] for name in names)}"
        case "enum":
            return f"must be one of {', '.join(map(str, limit))}"
        case "const":
            return f"must be `{limit}` or a mapping; config/README.md explains its keys"
    return f"needs: {rule.get('description', limit)}"  # a pattern, which the description puts in words


def shown(value: Any) -> str:
    """A value as it is quoted in an error."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def suggestion(unknown: Any, known: Iterable[str]) -> str:
    """What to write instead: the nearest of the known words, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(str(unknown)[:100], known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
