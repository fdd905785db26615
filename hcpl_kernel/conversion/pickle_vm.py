"""An interpreter of pickle programs that builds inert data only.

Python's unpickler imports what a pickle names and calls it. Here every opcode is interpreted over plain containers:
a named class or function becomes a :class:`Named`, an object of any class a :class:`StandIn` that holds its state, and
a "call" is looked up in :data:`hcpl_kernel.conversion.calls.CALLS`. Any other call is refused by name. The opcodes are
read by the standard library's `pickletools`, which executes nothing.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import IO, Any

from hcpl_kernel.conversion.calls import CALLS
from hcpl_kernel.conversion.inert import Named, StandIn, TensorRecord, describe, mapping
from hcpl_kernel.errors import UnsafePickleError, WeightsError

# Our choice: a full-size whole module takes some 10^5 operations, while an operation can cost about 100 bytes.
MAX_OPERATIONS = 4_000_000

# fmt: off
PUSHES = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
))
# fmt: on
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# A set becomes a list, since its members may not be hashable here; nobody asks a weights file for one.
CONTAINERS: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}


class PickleVM:
    """Runs one pickle program.

    Args:
        where: the file, for messages.
        persistent: gives the value of a persistent id (torch: a :class:`hcpl_kernel.conversion.inert.Storage`).
    """

    def __init__(self, where: str, persistent: Callable[[Any], Any]) -> None:
        self.where = where
        self._persistent = persistent
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._left = MAX_OPERATIONS

    def run(self, stream: IO[bytes]) -> Any:
        """Interpret the program at the stream's position, to its end (STOP), and give what it builds.

        Raises:
            UnsafePickleError: if it calls what is not in :data:`CALLS`, uses opcodes that no torch file has, or is too
                long.
            WeightsError: if it is damaged.
        """
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                self.spend(1)
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, OverflowError, struct.error) as error:
            raise WeightsError(f"{self.where} is not an intact torch file: {type(error).__name__}: {error}") from error
        raise WeightsError(f"{self.where} is not an intact torch file: its pickle does not end")

    def spend(self, operations: int) -> None:
        """Count work against :data:`MAX_OPERATIONS`, so that a small file cannot ask for unbounded memory."""
        self._left -= operations
        if self._left < 0:
            raise UnsafePickleError(
                f"{self.where}: its pickle needs more than {MAX_OPERATIONS} operations, expected a tenth of that for a "
                "large network; save the bare state dict and convert that"
            )

    def refuse(self, what: str) -> UnsafePickleError:
        """The error that names what a pickle wanted to do."""
        return UnsafePickleError(
            f"{self.where} {what}, which no plain weights file needs; nothing of it was executed. Do not load this "
            "file with other programs. If you trust its origin, save the network's state_dict() there and convert that"
        )

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in PUSHES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in CONTAINERS:
            stack.append(CONTAINERS[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in OPERATIONS:
            OPERATIONS[name](self, argument)
        else:
            raise self.refuse(f"uses the pickle opcode {name}")

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, _: Any) -> None:
        items = tuple(self._since_mark())
        self._stack.append(items)

    def _short_tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError("stack is too short for a tuple")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _list(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(mapping(items))

    def _append(self, _: Any) -> None:
        item = self._stack.pop()
        self._sequence().append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        self._sequence().extend(items)

    def _sequence(self) -> list[Any]:
        target = self._stack[-1]
        if isinstance(target, StandIn):
            return target.items
        if type(target) is not list:
            raise self.refuse(f"appends to {describe(target)}")
        return target

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _setitems(self, _: Any) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, StandIn):
            target = target.pairs
        if type(target) is not dict:
            raise self.refuse(f"sets items of {describe(target)}")
        target.update(mapping(items))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Named(f"{module}.{name}"))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise self.refuse("names a class by something that is not text")
        self._stack.append(Named(f"{module}.{name}"))

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._instance(Named(f"{module}.{name}"), self._since_mark())

    def _obj(self, _: Any) -> None:
        kind, *arguments = self._since_mark()
        self._instance(kind, arguments)

    def _instance(self, kind: Any, arguments: list[Any]) -> None:
        # These two opcodes of protocol 0 call the class if there are arguments, and else only create an object.
        self._stack.append(self._call(kind, tuple(arguments)) if arguments else self.create(kind))

    def _newobj(self, _: Any) -> None:
        _arguments, kind = self._stack.pop(), self._stack.pop()
        self._stack.append(self.create(kind))

    def _newobj_ex(self, _: Any) -> None:
        self._stack.pop()
        self._newobj(None)

    def create(self, kind: Any) -> StandIn:
        """An object of a named class, without calling anything."""
        if not isinstance(kind, Named):
            raise self.refuse(f"creates an object of {describe(kind)}")
        return StandIn(kind)

    def _reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._call(function, arguments))

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Named) or function.full_name not in CALLS:
            raise self.refuse(f"calls {describe(function)}")
        if type(arguments) is not tuple:
            raise self.refuse(f"calls {function.full_name} with arguments that are not a tuple")
        return CALLS[function.full_name](self, function, arguments)

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, StandIn):
            for part in state if type(state) is tuple and len(state) == 2 else (state,):
                if type(part) is dict:
                    self.spend(len(part))
                    target.state.update(part)
        elif type(target) not in (dict, TensorRecord):
            # A dict or tensor may carry attributes (a state dict's `_metadata`), which are dropped.
            raise self.refuse(f"sets the state of {describe(target)}")

    def _binpersid(self, _: Any) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


OPERATIONS: dict[str, Callable[[PickleVM, Any], None]] = {
    "MARK": PickleVM._mark,
    "POP": PickleVM._pop,
    "POP_MARK": PickleVM._pop_mark,
    "DUP": PickleVM._dup,
    "TUPLE": PickleVM._tuple,
    "TUPLE1": lambda vm, _: vm._short_tuple(1),
    "TUPLE2": lambda vm, _: vm._short_tuple(2),
    "TUPLE3": lambda vm, _: vm._short_tuple(3),
    "LIST": PickleVM._list,
    "FROZENSET": PickleVM._list,
    "DICT": PickleVM._dict,
    "APPEND": PickleVM._append,
    "APPENDS": PickleVM._appends,
    "ADDITEMS": PickleVM._appends,
    "SETITEM": PickleVM._setitem,
    "SETITEMS": PickleVM._setitems,
    "GLOBAL": PickleVM._global,
    "STACK_GLOBAL": PickleVM._stack_global,
    "INST": PickleVM._inst,
    "OBJ": PickleVM._obj,
    "NEWOBJ": PickleVM._newobj,
    "NEWOBJ_EX": PickleVM._newobj_ex,
    "REDUCE": PickleVM._reduce,
    "BUILD": PickleVM._build,
    "BINPERSID": PickleVM._binpersid,
}
