"""The library transformers, imported when the torchvision shim is in place: its image processors import torchvision."""

from __future__ import annotations

import importlib
from typing import Any

from rls3_gym._compat import torchvision as torchvision_compat

torchvision_compat.install()
transformers: Any = importlib.import_module("transformers")
transformers.utils.logging.disable_progress_bar()  # commands have progress of their own
