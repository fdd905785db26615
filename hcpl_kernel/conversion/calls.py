"""The calls that a pickle may ask for: our own functions under the names of torch's and Python's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hcpl_kernel.conversion.inert import Named, StandIn, Storage, TensorRecord, mapping
from hcpl_kernel.errors import UnsafePickleError, WeightsError

MAX_DIMENSIONS = 64


class Interpreter(Protocol):
    """What a call needs of the interpreter that runs it."""

    where: str

    def spend(self, operations: int) -> None:
        """Count work, so that a small file cannot ask for unbounded memory."""

    def refuse(self, what: str) -> UnsafePickleError:
        """The error that names what the pickle wanted."""
        ...

    def create(self, kind: Any) -> StandIn:
        """An empty object of a named class."""
        ...


def _ordered_dict(vm: Interpreter, function: Named, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    pairs = arguments[0] if arguments else []
    if type(pairs) is dict:
        return pairs
    if type(pairs) is not list or any(type(pair) not in (tuple, list) or len(pair) != 2 for pair in pairs):
        raise vm.refuse(f"calls {function.full_name} with something that is not a list of pairs")
    vm.spend(len(pairs))
    return mapping([item for pair in pairs for item in pair])


def _default_dict(vm: Interpreter, function: Named, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    return {}


def _only_argument(vm: Interpreter, function: Named, arguments: tuple[Any, ...]) -> Any:
    """A tuple, list or set made of one iterable: the iterable itself."""
    if len(arguments) != 1 or type(arguments[0]) not in (tuple, list, dict):
        raise vm.refuse(f"calls {function.full_name} with something that is not a sequence")
    return arguments[0]


def _ignored(vm: Interpreter, function: Named, arguments: tuple[Any, ...]) -> StandIn:
    """A value that no conversion needs (a device, a NumPy scalar in a training log)."""
    return StandIn(function)


def _reconstructed(vm: Interpreter, function: Named, arguments: tuple[Any, ...]) -> StandIn:
    """`copyreg`'s functions, which only create an object of their first argument."""
    if not arguments:
        raise vm.refuse(f"calls {function.full_name} without a class")
    return vm.create(arguments[0])


def _encoded(vm: Interpreter, function: Named, arguments: tuple[Any, ...]) -> bytes:
    """How protocol 2 spells bytes."""
    if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != "latin1":
        raise vm.refuse(f"calls {function.full_name} for something else than latin1 text")
    vm.spend(len(arguments[0]))
    return arguments[0].encode("latin1")


def _parameter(vm: Interpreter, function: Named, arguments: tuple[Any, ...]) -> TensorRecord:
    if not arguments or type(arguments[0]) is not TensorRecord:
        raise vm.refuse(f"calls {function.full_name} with something that is not a tensor")
    return arguments[0]


def _tensor(vm: Interpreter, function: Named, arguments: tuple[Any, ...]) -> TensorRecord:
    """`torch._utils._rebuild_tensor[_v2](storage, storage_offset, size, stride, ...)`."""
    if len(arguments) < 4 or type(arguments[0]) is not Storage:
        raise vm.refuse(f"calls {function.full_name} without a storage")
    storage, offset, shape, stride = arguments[:4]
    sizes_good = type(shape) is tuple and type(stride) is tuple and len(shape) == len(stride) <= MAX_DIMENSIONS
    if not sizes_good or any(type(n) is not int or not 0 <= n < 2**48 for n in (offset, *shape, *stride)):
        raise WeightsError(f"{vm.where}: a tensor of storage {storage.key} has no valid offset, shape and stride")
    record = TensorRecord(storage, offset, shape, stride)
    if offset + record.extent > storage.numel:
        raise WeightsError(
            f"{vm.where}: a tensor of shape {shape} ends at element {offset + record.extent} of storage "
            f"{storage.key}, which has {storage.numel}; the file is damaged or forged"
        )
    if record.numel > storage.numel:
        raise WeightsError(
            f"{vm.where}: a tensor of shape {shape} repeats the {storage.numel} elements of storage "
            f"{storage.key}; save it with .contiguous() if it is meant so"
        )
    return record


Call = Callable[[Interpreter, Named, tuple[Any, ...]], Any]

CALLS: dict[str, Call] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "torch.Size": _only_argument,
    "builtins.set": _only_argument,
    "builtins.frozenset": _only_argument,
    "__builtin__.set": _only_argument,
    "__builtin__.frozenset": _only_argument,
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
    "copyreg.__newobj__": _reconstructed,
    "copy_reg.__newobj__": _reconstructed,
    "torch.device": _ignored,
    "numpy.dtype": _ignored,
    "numpy.core.multiarray.scalar": _ignored,
    "numpy._core.multiarray.scalar": _ignored,
    "numpy.core.multiarray._reconstruct": _ignored,
    "numpy._core.multiarray._reconstruct": _ignored,
}
