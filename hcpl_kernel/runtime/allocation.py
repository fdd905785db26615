"""Which errors of torch, OpenCV and Python mean that memory could not be allocated."""

from __future__ import annotations

import cv2
import torch

# Of torch's CPU allocator, of CUDA's libraries where they do not raise OutOfMemoryError, and of oneDNN.
_TEXTS = ("can't allocate", "not enough memory", "out of memory", "alloc_failed", "could not allocate")


def is_gpu_out_of_memory(error: BaseException) -> bool:
    """True where a GPU's memory was too small, so that emptying torch's cache may help."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cu" in text and ("out of memory" in text or "alloc_failed" in text)


def is_out_of_memory(error: BaseException) -> bool:
    """True where memory of the CPU or a GPU could not be allocated, whichever library says so."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS)
