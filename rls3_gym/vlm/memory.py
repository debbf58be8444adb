"""What a round needs of memory: measured, for the logs."""

from __future__ import annotations

import sys

import torch


def forget_peak(device: torch.device) -> None:
    """Begin to measure anew, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    """Bytes: on a CUDA device the most that tensors took since `forget_peak`; else the most that the process has ever
    had in main memory. None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
