"""Look through decoded protobuf messages; onnx itself is not needed for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def is_text(message: Any) -> bool:
    """Whether all text of a protobuf message is: other bytes come through as bytes."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts = [value] if isinstance(value, (str, bytes)) else value
            if not all(isinstance(text, str) for text in texts):
                return False
        elif field.type == field.TYPE_MESSAGE:
            messages = [value] if hasattr(value, "ListFields") else value
            if not all(map(is_text, messages)):
                return False
    return True


def proto_opset(proto: Any) -> int | None:
    """The version of the standard's operators that a decoded file asks for."""
    for entry in proto.opset_import:
        if entry.domain == "":
            return int(entry.version)
    return None


def proto_nodes(graph: Any) -> Iterator[Any]:
    """All nodes of a decoded graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from proto_nodes(inner)
