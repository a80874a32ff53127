"""An interpreter of the pickles in files that ``torch.save`` wrote, which calls nothing.

A pickle is a program: its opcodes may import any name and call it. This interpreter has only the
opcodes that a state dict needs and only the names in ``GLOBALS``, for which it builds descriptions
of tensors. ``pickletools.genops`` decodes the opcodes. Every opcode takes time and memory in
proportion to its bytes, so limits on bytes and opcodes bound both.
"""

import io
import pickletools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ml_dtypes
import numpy as np

LARGEST_PICKLE = 2**21
"""Limit of the bytes of a pickle: a state dict takes about 250 for each tensor."""

MOST_OPCODES = 2**18
"""Limit of the opcodes of a pickle: a state dict has about 40 for each tensor."""

MOST_PAIRS = MOST_OPCODES // 4
"""Limit of the pairs in all lists that become dicts, since a pickle may use a list many times."""

MOST_DIMENSIONS = 32
"""Limit of the dimensions of a tensor, that of NumPy 1."""

STORAGE_DTYPES: Mapping[str, np.dtype] = {
    f"torch {name}Storage": np.dtype(dtype).newbyteorder("<")
    for name, dtype in {
        "Double": np.float64,
        "Float": np.float32,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Long": np.int64,
        "Int": np.int32,
        "Short": np.int16,
        "Char": np.int8,
        "Byte": np.uint8,
        "Bool": np.bool_,
    }.items()
}
"""The dtype of each class of storages."""


@dataclass(frozen=True)
class Storage:
    """A reference to values elsewhere in the file.

    Attributes:
        dtype: Type of the values.
        key: Their name in the file.
        size: Number of values in the storage.
        start: Index of the first value that belongs to this storage.
        stop: Index after the last one.
    """

    dtype: np.dtype
    key: str
    size: int
    start: int
    stop: int


@dataclass(frozen=True)
class Tensor:
    """A tensor, as a view of a storage.

    Attributes:
        storage: The storage.
        offset: Index of the tensor's first value in the storage.
        shape: Number of values along each dimension.
        strides: Step in the storage along each dimension, in values; 0 repeats the values.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickle(stream: io.BytesIO) -> Any:
    """Read one pickle, and leave the stream after it.

    Args:
        stream: At the beginning of a pickle in protocol 2.

    Returns:
        The object: :class:`Tensor` for tensors, ``dict`` for dicts, and numbers, strings, lists and
        tuples as they are.

    Raises:
        ValueError: If the pickle is damaged, or has an opcode or a name that a state dict does not
            need.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in islice(pickletools.genops(stream), MOST_OPCODES):
            if opcode.name == "STOP":
                return machine.pop()
            if opcode.name not in _OPERATIONS:
                raise ValueError(
                    f"its pickle has the opcode {opcode.name}, which no state dict needs"
                )
            _OPERATIONS[opcode.name](machine, argument)
    except (IndexError, KeyError) as error:
        raise ValueError("its pickle is damaged") from error
    raise ValueError(f"its pickle has more than {MOST_OPCODES} opcodes")


class _Machine:
    """The state of the interpreter: a stack, the stacks below the marks, and the memo."""

    def __init__(self) -> None:
        self.pairs = 0
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        values = self.stack
        self.stack = self.below_marks.pop()
        return values


def _set_items(machine: _Machine, values: Sequence[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not dict or len(values) % 2:
        raise ValueError("its pickle sets items of something other than a dict")
    _update(target, zip(values[::2], values[1::2], strict=True))


def _update(target: dict[str, Any], items: Iterable[Any]) -> None:
    for key, value in items:
        # A tuple would be hashed along all that it holds, to any depth.
        if not isinstance(key, str):
            raise ValueError("its pickle has a dict whose keys are not strings")
        target[key] = value


def _append(machine: _Machine, values: Sequence[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not list:
        raise ValueError("its pickle appends to something other than a list")
    target.extend(values)


def _find(machine: _Machine, name: str) -> None:
    if name not in GLOBALS:
        shown = name.replace(" ", ".")[:80]
        raise ValueError(f"its pickle asks for {shown}, which no state dict needs")
    machine.push(GLOBALS[name])


def _reduce(machine: _Machine) -> None:
    arguments, constructor = machine.pop(), machine.pop()
    if not isinstance(constructor, _Constructor) or type(arguments) is not tuple:
        raise ValueError("its pickle calls something other than a constructor of tensors")
    if len(arguments) not in constructor.arguments:
        raise ValueError(f"its pickle gives a constructor {len(arguments)} arguments")
    machine.pairs += sum(len(argument) for argument in arguments if type(argument) is list)
    if machine.pairs > MOST_PAIRS:
        raise ValueError(f"its pickle has dicts of more than {MOST_PAIRS} pairs")
    machine.push(constructor.build(*arguments))


def _build(machine: _Machine) -> None:
    """Drop the attributes of an ordered dict: versions of modules, which a reader does not need."""
    state, target = machine.pop(), machine.stack[-1]
    if type(target) is not dict or type(state) is not dict:
        raise ValueError("its pickle sets attributes of something other than a dict")


def _persistent(machine: _Machine) -> None:
    """Push the storage that a tuple of torch describes."""
    identity = machine.pop()
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        raise ValueError("its pickle refers to something other than a storage")
    _, dtype, key, _, size, *view = identity
    if not isinstance(dtype, np.dtype) or not isinstance(key, str) or not _is_size(size):
        raise ValueError("its pickle describes a storage that no version of torch writes")
    start, stop = 0, size
    if view and view[0] is not None:  # torch before 0.4 could share a part of a storage
        start, stop = _view(view[0], size)
    machine.push(Storage(dtype, key, size, start, stop))


def _view(view: Any, size: int) -> tuple[int, int]:
    if type(view) is not tuple or len(view) != 3 or not all(map(_is_size, view[1:])):
        raise ValueError("its pickle describes a storage that no version of torch writes")
    _, offset, length = view
    if offset + length > size:
        raise ValueError(f"it has a view up to value {offset + length} of a storage of {size}")
    return offset, offset + length


def _ordered_dict(*pairs: Any) -> dict[str, Any]:
    """Return a dict; Python 2 passes its items as a list of lists of two."""
    ordered: dict[str, Any] = {}
    for items in pairs:
        if type(items) is not list or any(type(i) is not list or len(i) != 2 for i in items):
            raise ValueError("its pickle has an ordered dict of something other than pairs")
        _update(ordered, items)
    return ordered


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """Return the description of a tensor whose values lie within its storage."""
    if not isinstance(storage, Storage) or not _is_size(offset):
        raise ValueError("its pickle has a tensor without a storage")
    if not _are_sizes(shape) or not _are_sizes(strides) or len(shape) != len(strides):
        raise ValueError("its pickle has a tensor whose shape and strides do not fit")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    size = storage.stop - storage.start
    if 0 not in shape and last >= size:
        raise ValueError(f"it has a tensor up to value {last + 1} of a storage of {size}")
    return Tensor(storage, offset, shape, strides)


def _rebuild_tensor_v2(
    storage: Any, offset: Any, shape: Any, strides: Any, _requires_grad: Any, _hooks: Any
) -> Tensor:
    return _rebuild_tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, _requires_grad: Any, _hooks: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError("its pickle has a parameter that is not a tensor")
    return tensor


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_sizes(values: Any) -> bool:
    return type(values) is tuple and len(values) <= MOST_DIMENSIONS and all(map(_is_size, values))


@dataclass(frozen=True)
class _Constructor:
    """A function that REDUCE may call.

    Attributes:
        build: The function.
        arguments: The numbers of arguments that it may get.
    """

    build: Callable[..., Any]
    arguments: tuple[int, ...]


GLOBALS: Mapping[str, np.dtype | _Constructor] = {
    **STORAGE_DTYPES,
    "collections OrderedDict": _Constructor(_ordered_dict, (0, 1)),
    "torch._utils _rebuild_tensor": _Constructor(_rebuild_tensor, (4,)),  # of torch before 0.4
    # A seventh argument marks conjugate and negative views.
    "torch._utils _rebuild_tensor_v2": _Constructor(_rebuild_tensor_v2, (6,)),
    "torch._utils _rebuild_parameter": _Constructor(_rebuild_parameter, (3,)),
}
"""Object for each name that a pickle may import."""


def _text(machine: _Machine, text: str) -> None:
    """Push a string of Python 2, which genops decodes as Latin-1."""
    machine.push(text.encode("latin-1").decode())


_Operation = Callable[[_Machine, Any], Any]

_PUSHED = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")

_OPERATIONS: Mapping[str, _Operation] = {
    **dict.fromkeys(_PUSHED, _Machine.push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _text),
    **dict.fromkeys(
        ("BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])
    ),
    **dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"),
        lambda machine, index: machine.memo.__setitem__(index, machine.stack[-1]),
    ),
    "PROTO": lambda machine, version: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.mark(),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(_last(machine, 1)),
    "TUPLE2": lambda machine, _: machine.push(_last(machine, 2)),
    "TUPLE3": lambda machine, _: machine.push(_last(machine, 3)),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: _append(machine, _last(machine, 1)),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: _set_items(machine, _last(machine, 2)),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_to_mark()),
    "GLOBAL": _find,
    "REDUCE": lambda machine, _: _reduce(machine),
    "BUILD": lambda machine, _: _build(machine),
    "BINPERSID": lambda machine, _: _persistent(machine),
}
"""The opcodes of protocol 2 that ``torch.save`` writes for a state dict."""


def _last(machine: _Machine, count: int) -> tuple[Any, ...]:
    """Pop the last values, in the order in which they were pushed."""
    values = tuple(machine.pop() for _ in range(count))
    return values[::-1]
