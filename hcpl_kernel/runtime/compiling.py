"""Compiling kernels with numba, with a cache on disk where there is any place for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """`numba.njit`, cached in the package folder, else in `NUMBA_CACHE_DIR` or the user's cache folder.

    Where none of them is writable numba refuses to cache; the kernel is then compiled again in each process.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        return numba.njit(nogil=True)(function)
