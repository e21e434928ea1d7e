"""YAML that people write, read strictly: a plain loader takes some mistakes silently and never ends with some files.

Refused in one line: a key that stands there twice, aliases that stand for terabytes, tags, numbers
that YAML reads otherwise than they look (`1:20` is 80), a file that is none or is too large.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 100_000  # about two seconds of reading; the largest file of the project has 9,000
MOST_NODES = 20_000  # keys and values, those behind aliases again for each alias
MOST_LEVELS = 20  # of lists and mappings within each other


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ValueError: one line with the file, what was found and what to do."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a device may have no end
            raise OSError(0, "no plain file")
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; name a YAML file that can be read") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path}: found more than {MOST_BYTES:,} bytes; shorten it")
    try:
        found = yaml.load(content.decode("utf-8-sig"), _StrictLoader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: found byte {error.start}, which is not UTF-8; save the file as UTF-8") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise ValueError(f"{path}{where}: not valid YAML ({problem}); mend it") from error
    if not isinstance(found, dict):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise ValueError(f"{path}: found {what}; write keys and values at the top level")
    return found


class _StrictLoader(yaml.SafeLoader):
    """Raises YAMLError for what `read_yaml` refuses."""

    levels = 0
    nodes = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.sizes: dict[str, int] = {}  # anchor -> nodes below it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.NodeEvent = self.peek_event()  # type: ignore[no-untyped-call]
        anchor, before = event.anchor or "", self.nodes
        if isinstance(event, yaml.AliasEvent):
            if anchor in self.anchors and anchor not in self.sizes:
                raise _refused(event, f"alias *{anchor} within what it stands for")
            self.nodes += self.sizes.get(anchor, 0)
        elif tag := getattr(event, "tag", None):
            raise _refused(event, f"tag {tag}, leave it out")
        self.nodes += 1
        self.levels += 1
        if self.nodes > MOST_NODES or self.levels > MOST_LEVELS:
            raise _refused(event, f"more than {MOST_NODES:,} keys and values, or {MOST_LEVELS} within each other")
        node = super().compose_node(parent, index)
        self.levels -= 1
        if anchor and not isinstance(event, yaml.AliasEvent):
            self.sizes[anchor] = self.nodes - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise _refused(
                    key, f"key {key.value if isinstance(key, yaml.ScalarNode) else '[...]'}, put it in quotes"
                )
            if key.value in seen:
                raise _refused(key, f"key {key.value} twice, keep one")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]{,17})", node.value):
            raise _refused(node, f"{node.value[:30]}, which is no decimal number of at most 18 digits")
        return int(node.value)

    def construct_float(self, node: yaml.ScalarNode) -> float:
        value = self.construct_yaml_float(node)
        if math.isnan(value) or ":" in node.value:
            raise _refused(node, f"{node.value}, which is no decimal number")
        return value


def _refused(place: Any, what: str) -> yaml.YAMLError:
    """`place` is an event or a node, which has its line."""
    return yaml.MarkedYAMLError(problem=f"found {what}", problem_mark=place.start_mark)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_float)
