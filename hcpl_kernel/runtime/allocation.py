"""Which errors of torch, OpenCV and Python mean that memory could not be allocated."""

from __future__ import annotations

import cv2
import torch

# Of torch's CPU allocator, of CUDA's libraries where they do not raise OutOfMemoryError, and of oneDNN. cuBLAS and cuDNN
# also say so when they find no memory for their handle ("not initialized") or for any way to compute a convolution.
_CUDA_TEXTS = (
    "out of memory",
    "alloc_failed",
    "allocation_failed",
    "cublas_status_not_initialized",
    "cudnn_status_not_initialized",
    "valid cudnn algorithm",
    "unable to find an engine to execute",
)
_TEXTS = ("can't allocate", "not enough memory", "could not allocate", *_CUDA_TEXTS)


def is_gpu_out_of_memory(error: BaseException) -> bool:
    """True where a GPU's memory was too small, so that emptying torch's cache may help."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cu" in text and any(each in text for each in _CUDA_TEXTS)


def is_out_of_memory(error: BaseException) -> bool:
    """True where memory of the CPU or a GPU could not be allocated, whichever library says so."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS)
