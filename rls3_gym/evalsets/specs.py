"""Items of an evaluation set as compact facts: enough to render and caption each again, byte for byte.

A set is a gzipped file of JSON lines, one per item, and an entry in `sets/manifest.yaml`. Positions are whole
millimeters and yaws whole milliradians *before* anything is rendered, so that the file loses nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rls3_gym.runs.directory import replacing
from rls3_gym.scene.arrangement import ActiveObject, Arrangement
from rls3_registry.errors import UserError

SETS_FOLDER = Path(__file__).resolve().parent / "sets"


@dataclass(frozen=True)
class ItemSpec:
    """One item: a scene, the ordered pair its caption is about, and for presence items what is swapped."""

    arrangement: Arrangement
    """With rounded positions and yaws: see `rounded`."""
    slot_a: int
    slot_b: int
    absent: tuple[int, str] | None = None
    """Presence items: which of the pair (0 or 1) the false caption replaces, and by what absent kind."""

    def to_json(self) -> str:
        """One line without spaces; the set's hash is over these."""
        item = [*self.arrangement.encode().values(), self.slot_a, self.slot_b, *(self.absent or ())]
        return json.dumps(item, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> ItemSpec:
        """The inverse of `to_json`. Raises `ValueError` or `TypeError` for anything else."""
        family, layout, objects, slot_a, slot_b, *absent = json.loads(line)
        scene = Arrangement.decode({"family": family, "layout": layout, "objects": objects})
        swapped = (int(absent[0]), str(absent[1])) if absent else None
        return cls(scene, int(slot_a), int(slot_b), swapped)


def rounded(arrangement: Arrangement) -> Arrangement:
    """The arrangement with positions to the millimeter and yaws to the milliradian."""

    def to_grid(thing: ActiveObject) -> ActiveObject:
        x, y, z = thing.position
        return ActiveObject(thing.kind, (round(x, 3), round(y, 3), round(z, 3)), round(thing.yaw, 3))

    return replace(arrangement, objects=tuple(to_grid(thing) for thing in arrangement.objects))


def _content(specs: Sequence[ItemSpec]) -> bytes:
    return "".join(spec.to_json() + "\n" for spec in specs).encode()


def hash_of(specs: Sequence[ItemSpec]) -> str:
    """Identity of a set: 16 hex digits over its items, in order."""
    return hashlib.sha256(_content(specs)).hexdigest()[:16]


def write_specs(path: Path, specs: Sequence[ItemSpec]) -> None:
    """Write a set's file; the same items give the same bytes (no time stamp in the gzip header)."""
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(_content(specs), compresslevel=9, mtime=0))


def read_specs(path: Path) -> tuple[ItemSpec, ...]:
    """Read a set's file. Raises `UserError` naming the file when it is missing or damaged."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        return tuple(ItemSpec.from_json(line) for line in lines)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such evaluation set; `rls3 testsets` builds them") from error
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged evaluation set ({error}); `rls3 testsets` builds it again") from error
