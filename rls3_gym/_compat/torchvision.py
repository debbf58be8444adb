"""Let torchvision's CUDA wheel be imported beside a CPU-only torch.

Reason: package registries serve one Linux wheel of torchvision, built for CUDA. Beside a CPU-only torch its C++ library
cannot be loaded (it wants `libtorch_cuda.so`), so the operators `torchvision::nms` and `torchvision::qnms` are never
declared, and `import torchvision` fails with `operator torchvision::nms does not exist` when it registers their meta
kernels. open_clip and timm import torchvision for its picture transforms alone; they call none of its C++ operators.

`install` declares the two operators, without kernels, so that the import goes through. It does nothing where the C++
library loads (a matching pair of wheels), where torchvision is already imported or absent, and on a second call.
Calling `torchvision.ops.nms` still fails with torchvision's own error. Remove this file when torchvision publishes CPU
wheels for Linux on the registry, or stops registering meta kernels for operators it could not load.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
"""Of both operators, as torchvision's C++ sources declare them."""
OPERATORS = ("nms", "qnms")

_declared: list[Any] = []
"""The declaring `torch.library.Library`; the operators vanish with it, so it has to be kept."""


def install() -> bool:
    """Make `import torchvision` possible. Call it before the first import of torchvision, open_clip or timm.

    Returns True when the two operators are declared by this module, False when nothing had to be done.
    """
    if _declared:
        return True
    if "torchvision" in sys.modules:
        return False
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _library_loads(Path(spec.origin).parent):
        return False
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        library.define(operator + SIGNATURE)
    _declared.append(library)
    return True


def _library_loads(package: Path) -> bool:
    """Whether torchvision's C++ operators can be loaded into this process; loads them when they can."""
    import torch

    libraries = sorted((*package.glob("_C*.so"), *package.glob("_C*.pyd")))
    try:
        for path in libraries:
            torch.ops.load_library(str(path))
    except OSError:
        return False
    return bool(libraries)
