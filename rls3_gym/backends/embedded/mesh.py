"""Triangle meshes with normals and texture coordinates, and what a tracer needs to know of their surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in meters. `vertices`, `normals` (n, 3) and `uv` (n, 2) float32; `faces` (m, 3) int32.

    `uv` is in texture repeats: a textured surface repeats its texture once per unit.
    """

    vertices: Float32
    faces: Int32
    normals: Float32
    uv: Float32

    def __post_init__(self) -> None:
        n = len(self.vertices)
        if self.normals.shape != (n, 3) or self.uv.shape != (n, 2) or self.faces.shape[1:] != (3,):
            raise ValueError("vertices, normals, uv and faces of a mesh do not fit together")

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        """The mesh shifted by (x, y, z) meters."""
        return replace(self, vertices=(self.vertices + np.array([x, y, z], np.float32)).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Part:
    """A mesh with one surface: base color (sRGB, 0..1), optional texture by name, specular strength 0..1.

    The texture (mean near white) is multiplied by the color.
    """

    mesh: Mesh
    color: tuple[float, float, float]
    texture: str | None = None
    specular: float = 0.1
