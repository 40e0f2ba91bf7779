"""A network in an ONNX file: its weights, and what is left of it behind one of its values.

Invariant: what is not asked to change stays as it is, byte by byte.

The file is read here, as protocol buffers are: ONNX's own library takes longer to import than all
that is done with it, and a worker's first job would wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL_GRAPH, GRAPH_NODE, GRAPH_WEIGHT, GRAPH_INPUT = 7, 1, 5, 11
NODE_INPUT, NODE_OUTPUT = 1, 2
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_NAME, TENSOR_DATA = 1, 2, 8, 9
INPUT_NAME, INPUT_TYPE = 1, 2
TYPE_TENSOR, TENSOR_OF, OF_SHAPE, SHAPE_SIZE, SIZE_NUMBER, SIZE_NAME = 1, 1, 2, 1, 1, 2
FLOAT32 = 1
"""Numbers of the fields that are read and written here (onnx.proto), and of a type."""
BYTES = 2
"""How protocol buffers mark a value that has a length. What these files hold else are numbers."""

Field = tuple[int, Any]
"""A field's number and its value: a whole number, or bytes."""


def weights(model: bytes) -> dict[str, NDArray[np.float32]]:
    """The network's weights by name, those in float32."""
    found = {}
    for number, tensor in _fields(_graph(model)):
        if number != GRAPH_WEIGHT:
            continue
        fields = list(_fields(tensor))
        shape = [value for field, value in fields if field == TENSOR_SHAPE]
        of = dict(fields)
        if of[TENSOR_TYPE] == FLOAT32:
            values = np.frombuffer(of[TENSOR_DATA], np.float32)
            found[of[TENSOR_NAME].decode()] = values.reshape(shape)
    return found


def behind(model: bytes, name: str, shape: Sequence[str | int]) -> bytes:
    """The model whose first input is the value `name`, without the nodes that made it.

    An input of which nothing is left is gone as well. `shape` names the sizes that vary.
    """
    known = {name.encode()}
    used: set[bytes] = set()
    kept: list[Field] = []
    for number, value in _fields(_graph(model)):
        if number == GRAPH_NODE:
            fields = list(_fields(value))
            takes = {taken for field, taken in fields if field == NODE_INPUT}
            if known.isdisjoint(takes):
                continue
            used |= takes
            known.update(made for field, made in fields if field == NODE_OUTPUT)
        kept.append((number, value))
    kept = [
        (number, value)
        for number, value in kept
        if number != GRAPH_INPUT or dict(_fields(value))[INPUT_NAME] in used
    ]
    graph = _message([(GRAPH_INPUT, _input(name, shape)), *kept])
    return _message(
        (number, graph if number == MODEL_GRAPH else value) for number, value in _fields(model)
    )


def _input(name: str, shape: Sequence[str | int]) -> bytes:
    sizes = (
        (SIZE_NAME, size.encode()) if isinstance(size, str) else (SIZE_NUMBER, size)
        for size in shape
    )
    whole = _message((SHAPE_SIZE, _message([size])) for size in sizes)
    tensor = _message([(TENSOR_OF, FLOAT32), (OF_SHAPE, whole)])
    return _message([(INPUT_NAME, name.encode()), (INPUT_TYPE, _message([(TYPE_TENSOR, tensor)]))])


def _graph(model: bytes) -> bytes:
    graph: bytes = dict(_fields(model))[MODEL_GRAPH]
    return graph


def _fields(message: bytes) -> Iterator[Field]:
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        value, at = _number(message, at)
        if key & 7 == BYTES:
            yield key >> 3, message[at : at + value]
            at += value
        else:
            yield key >> 3, value


def _message(fields: Iterable[Field]) -> bytes:
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _digits(number << 3) + _digits(value)
        else:
            out += _digits(number << 3 | BYTES) + _digits(len(value)) + value
    return bytes(out)


def _number(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends: seven bits a byte, the lowest first."""
    value = shift = 0
    while message[at] & 128:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1


def _digits(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
