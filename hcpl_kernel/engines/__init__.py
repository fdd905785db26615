"""What computes a network's forward pass, found by name; importing this loads no library.

A further engine is a module with a subclass of :class:`hcpl_kernel.engines.base.Engine` and a line in `_ENGINES`.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

from hcpl_kernel.errors import SettingsError

if TYPE_CHECKING:
    from hcpl_kernel.engines.base import Engine

COMPILED = "compiled"
_ENGINES = {
    "torch": ("torch_engine", "TorchEngine"),
    "openvino": ("openvino_engine", "OpenVinoEngine"),
    "onnx": ("onnx_engine", "OnnxEngine"),
    COMPILED: ("compiled_engine", "CompiledEngine"),
}
AUTO = "auto"
"""Torch with Triton in the scattering; on a GPU it compiles networks for which that pays back (`pipeline/compiling.py`)."""
PLAIN = "torch"
"""Torch without anything that is compiled for a GPU: it is what `auto` takes for a network after that crashed."""
TOLERANT = "compiled where it works"
"""What `auto` computes such a network with."""
_NOT_ASKED_FOR = {AUTO: ("torch_engine", "TritonEngine"), TOLERANT: ("compiled_engine", "TolerantEngine")}
WITH_TRITON = (AUTO, COMPILED, TOLERANT)
"""Engines with which a scattering runs in Triton on GPUs where that works."""
ENGINES = (AUTO, *_ENGINES)
"""The names that `--engine` takes."""


def keyed(name: str) -> str:
    """The engine whose results are equal to those of the given one, but for rounding: `auto` is torch."""
    return PLAIN if name == AUTO else name


def get_engine(name: str) -> Engine:
    """The engine of a name. Whether it is installed and runs on a device is what its `check` says.

    Raises:
        SettingsError: for a name that is not in :data:`ENGINES`.
    """
    engines = _NOT_ASKED_FOR | _ENGINES
    if name not in engines:
        near = difflib.get_close_matches(name, ENGINES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"engine is {name!r}, expected one of {', '.join(ENGINES)}{hint}")
    module, kind = engines[name]
    engine: Engine = getattr(import_module(f"{__name__}.{module}"), kind)()
    return engine
