"""The names of the tensors in a pickled object, as a present-day network calls them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from hcpl_kernel.conversion.inert import StandIn, TensorRecord
from hcpl_kernel.errors import UnsafePickleError, WeightsError

# Where checkpoints keep the network, in the order of preference.
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net")
# What DataParallel, torch.compile and a Lightning module whose network is its `model` put before every name.
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
# Lightning writes its version into a checkpoint; next to `model.` its state dict may hold losses and metrics.
LIGHTNING_KEY, LIGHTNING_PREFIX = "pytorch-lightning_version", "model."
# Our choice: far above any real network, so that a forged tree cannot keep the walk busy forever.
MAX_MODULES = 100_000
MAX_DEPTH = 100


@dataclasses.dataclass(frozen=True)
class StateDict:
    """Named tensors.

    Attributes:
        tensors: name -> tensor.
        origin: what the file held, for the provenance ("module pytorch_zoo.unet.DPNUnet", "state dict").
        dropped: names that were left out, because they are not tensors or are derived values.
        renamed: how many names were changed.
    """

    tensors: dict[str, TensorRecord]
    origin: str
    dropped: tuple[str, ...]
    renamed: int


def find_state_dict(content: Any, where: str) -> StateDict:
    """The state dict of a pickled object: a module, a state dict, or a checkpoint that holds one of them.

    Wrapper prefixes are removed, and names of old Swin transformers become those of timm >= 0.9.

    Raises:
        WeightsError: if the object holds no network, or names are ambiguous.
        UnsafePickleError: if its module tree is endless or absurdly large.
    """
    network, path = _network(content, where)
    by_lightning = LIGHTNING_KEY in _pairs(content)
    if _is_module(network):
        origin = f"module {network.kind.full_name}"
        found = _unique(_module_tensors(network, where), where)
        dropped: list[str] = []
    else:
        origin = "state dict"
        pairs = _pairs(network)
        found = {name: value for name, value in pairs.items() if _is_named_tensor(name, value)}
        if by_lightning and any(name.startswith(LIGHTNING_PREFIX) for name in found):
            found = {name: value for name, value in found.items() if name.startswith(LIGHTNING_PREFIX)}
        dropped = [str(name) for name in pairs if type(name) is str and name not in found]
    names = _without_wrappers({name: name for name in found})
    names, derived = _timm_swin_names(names)
    tensors = {names[name]: found[name] for name in names}
    if len(tensors) != len(names) or "__metadata__" in tensors:
        raise WeightsError(
            f"{where}: after renaming, tensors have equal or reserved names; convert its state_dict() instead"
        )
    return StateDict(
        tensors=tensors,
        origin=" of ".join([origin, *(f"checkpoint key {key!r}" for key in reversed(path))]),
        dropped=tuple(dropped + derived),
        renamed=sum(old != new for old, new in names.items()),
    )


def _network(content: Any, where: str) -> tuple[Any, list[str]]:
    """The module or state dict inside a pickled object, and the checkpoint keys that lead to it."""
    path: list[str] = []
    while True:
        if _is_module(content):
            return content, path
        pairs = _pairs(content)
        key = next((key for key in CHECKPOINT_KEYS if key in pairs and _is_nested(pairs[key])), None)
        if key is None or len(path) == MAX_DEPTH:
            break
        path.append(key)
        content = pairs[key]
    others = [repr(name) for name, value in pairs.items() if type(name) is str and _holds_tensors(value)]
    if not others and any(_is_named_tensor(name, value) for name, value in pairs.items()):
        return content, path
    held = ", ".join(repr(name) for name in list(pairs)[:8] if type(name) is str) or _kind(content)
    also = f"; tensors are under {', '.join(others[:8])}, save the network's state_dict() alone" if others else ""
    raise WeightsError(
        f"{where} holds no network: expected a module, a state dict, or a checkpoint with one under "
        f"{', '.join(CHECKPOINT_KEYS)}; found {held}{also}"
    )


def _is_nested(value: Any) -> bool:
    """A module or a dictionary, which may hold a network; a tensor may not."""
    return _is_module(value) or bool(_pairs(value))


def _holds_tensors(value: Any) -> bool:
    """A module, or a dictionary with tensors; single tensors next to it (a loss) are not a network."""
    return _is_module(value) or any(_is_named_tensor(name, inner) for name, inner in _pairs(value).items())


def _is_module(value: Any) -> bool:
    return isinstance(value, StandIn) and {"_modules", "_parameters", "_buffers"} <= value.state.keys()


def _is_named_tensor(name: Any, value: Any) -> bool:
    return type(name) is str and type(value) is TensorRecord


def _pairs(value: Any) -> dict[Any, Any]:
    """The items of a dict, or of an object of a class derived from one."""
    if isinstance(value, StandIn):
        return value.pairs
    return value if type(value) is dict else {}


def _kind(value: Any) -> str:
    if isinstance(value, TensorRecord):
        return "tensor"
    return value.kind.full_name if isinstance(value, StandIn) else type(value).__name__


def _module_tensors(root: StandIn, where: str) -> Iterator[tuple[str, TensorRecord]]:
    """(name, tensor) of a module tree, in `state_dict()`'s order and without buffers that it leaves out."""
    pending = [(root, "", 0)]
    visited = 0
    while pending:
        module, prefix, depth = pending.pop()
        visited += 1
        if visited > MAX_MODULES or depth > MAX_DEPTH:
            raise UnsafePickleError(
                f"{where}: its module tree is more than {MAX_DEPTH} deep or has more than {MAX_MODULES} modules, "
                "as if a module contained itself; no real network does"
            )
        passing = module.state.get("_non_persistent_buffers_set", [])
        for group in ("_parameters", "_buffers"):
            for name, value in _pairs(module.state[group]).items():
                if _is_named_tensor(name, value):
                    if group == "_parameters" or type(passing) is not list or name not in passing:
                        yield prefix + name, value
                elif value is not None or type(name) is not str:
                    raise WeightsError(f"{where}: {prefix}{name} among {group} of {_kind(module)} is a {_kind(value)}")
        children = [(name, child) for name, child in _pairs(module.state["_modules"]).items() if child is not None]
        for name, child in reversed(children):
            if type(name) is not str or not _is_module(child):
                raise WeightsError(f"{where}: {prefix}{name} is not a module but a {_kind(child)}")
            pending.append((child, f"{prefix}{name}.", depth + 1))


def _unique(pairs: Iterator[tuple[str, TensorRecord]], where: str) -> dict[str, TensorRecord]:
    found: dict[str, TensorRecord] = {}
    for name, tensor in pairs:
        if name in found:
            raise WeightsError(f"{where}: two tensors are named {name}; the file is damaged or forged")
        found[name] = tensor
    if not found:
        raise WeightsError(f"{where} holds a module without any tensor")
    return found


def _without_wrappers(names: dict[str, str]) -> dict[str, str]:
    for prefix in WRAPPER_PREFIXES:
        if names and all(name.startswith(prefix) for name in names.values()):
            return _without_wrappers({old: name.removeprefix(prefix) for old, name in names.items()})
    return names


def _timm_swin_names(names: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Names of a Swin transformer as of timm >= 0.9, which is what timm's own `checkpoint_filter_fn` renames.

    Old ones keep the derived buffers, put the downsampling at the end of a stage instead of the beginning of the next,
    and the classifier at `head` instead of `head.fc`. Resizing for another input size is not done: that needs the
    target network.

    Returns:
        old name -> name, and the old names that are left out.
    """
    if not any(name.endswith(".attn.relative_position_bias_table") for name in names.values()):
        return names, []
    derived = [old for old, name in names.items() if name.endswith((".relative_position_index", ".attn_mask"))]
    names = {old: name for old, name in names.items() if old not in set(derived)}
    # In timm >= 0.9 the first stage never has a downsampling.
    root = next((m[1] for name in names.values() if (m := re.match(r"(.*?)layers\.0\.downsample\.", name))), None)
    if root is None:
        return names, derived

    def present(name: str) -> str:
        if not name.startswith(root):
            return name
        rest = re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + 1}.downsample.", name[len(root) :])
        return root + re.sub(r"^head\.(weight|bias)$", r"head.fc.\1", rest)

    return {old: present(name) for old, name in names.items()}, derived
