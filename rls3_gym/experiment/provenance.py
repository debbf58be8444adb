"""What reproduces a run besides its configuration: the command, the versions, the commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

import rls3_registry

PACKAGES = (
    "rls3_gym", "embreex", "gymnasium", "numpy", "open_clip_torch", "pyarrow", "sb3_contrib", "stable_baselines3",
    "tianshou", "torch", "torchvision",
)  # fmt: skip


def command_line(arguments: Sequence[str]) -> str:
    """The command as it can be typed again."""
    return shlex.join(["rls3", *arguments]) + "\n"


def describe_environment() -> str:
    """Date, versions, platform, threads, and the commit when the package runs from its own checkout."""
    lines = [
        f"date {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"python {platform.python_version()}",
        f"platform {platform.system()} {platform.machine()}",
    ]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{package} not installed")
    lines.append(f"threads {torch.get_num_threads()} of {os.cpu_count()} cores")
    for folder in rls3_registry.folders()[1:]:
        lines.append(f"registry {folder}")
    commit = git_commit()
    return "\n".join(lines + ([f"commit {commit}"] if commit else [])) + "\n"


def git_commit() -> str | None:
    """Commit of the checkout this package runs from; None outside a checkout of it.

    `+changes` when files differ, `results/` apart: a study writes there while its runs are made.
    """
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return None  # installed: a repository further up would be another project's
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
        return head + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
