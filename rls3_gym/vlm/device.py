"""Where a VLM computes."""

from __future__ import annotations

import torch

from rls3_registry.errors import UserError


def find_device(name: str) -> torch.device:
    """The device a YAML names (`rls3_gym.vlm.finetune_settings.Device`). Raises `UserError` when it is not there."""
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if n_cuda else "mps" if has_mps else "cpu")
    device = torch.device(name)
    if (device.type == "cuda" and (device.index or 0) >= n_cuda) or (device.type == "mps" and not has_mps):
        here = ["cpu", *(f"cuda:{i}" for i in range(n_cuda)), *(["mps"] if has_mps else [])]
        raise UserError(f"settings.device: {name} is not available; this machine has {', '.join(here)}")
    return device
