"""The evaluation sets: balanced, held out, the same for everyone. `load_set("test").samples` gives the items of one.

| set | layouts | object pairs | drawn |
|---|---|---|---|
| `test` | test | kept out of training (`scene/splits.py`) | balanced over term x complexity |
| `test_natural` | test | of training kinds | by uniform random edits, as the random sampler |
| `test_balanced_natural` | test | kept out of training | balanced, but selected from uniform random edits |
| `test_unseen_kinds` | test | with a kind never generated in training | balanced |
| `presence` | test | of training kinds | balanced; captions say which objects are there |
| `validation` | validation | of training | balanced; for tuning and early stopping |
| `guide` | train | of training | balanced; for rewards that need one, never reported |

The package holds the scenes (`sets/*.jsonl.gz`, `evalsets/specs.py`), not their pixels: those come from the backend
of the experiment when a set is first loaded. No scene is in two sets. A change of rooms, objects or rules calls for
building them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from rls3_gym.backends.base import SceneBackend, load_backend
from rls3_gym.evalsets.renderings import render
from rls3_gym.evalsets.specs import SETS_FOLDER, ItemSpec, hash_of, read_specs
from rls3_gym.sample import CaptionItem, Sample
from rls3_registry.errors import unknown

__all__ = ["HELD_OUT_SETS", "SET_NAMES", "EvaluationSet", "held_out_keys", "kinds_shown", "load_set", "set_hash"]

SET_NAMES = (
    "test", "test_natural", "test_balanced_natural", "test_unseen_kinds", "validation", "guide", "presence",
)  # fmt: skip
HELD_OUT_SETS = tuple(name for name in SET_NAMES if name != "guide")
"""Sets whose scenes may never be trained on."""


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """One evaluation set, as one backend shows it."""

    name: str
    hash: str
    """Identity of the scenes and captions, 16 hex digits; recorded in every metrics row."""
    backend: str
    """Fingerprint of the backend that shows them; recorded beside the hash."""
    items: tuple[CaptionItem, ...]

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The items of a set about relations. Raises `TypeError` for the presence set, whose items are not."""
        samples = tuple(item for item in self.items if isinstance(item, Sample))
        if len(samples) < len(self.items):
            raise TypeError(f"the items of {self.name!r} are not about relations")
        return samples

    def __len__(self) -> int:
        return len(self.items)


@cache
def _specs(name: str) -> tuple[ItemSpec, ...]:
    if name not in SET_NAMES:
        raise unknown("evaluation set", name, SET_NAMES)
    return read_specs(SETS_FOLDER / f"{name}.jsonl.gz")


@cache
def set_hash(name: str) -> str:
    """The hash of a packaged set, without rendering it. Raises `UserError` for an unknown name."""
    return hash_of(_specs(name))


_loaded: dict[tuple[str, str], EvaluationSet] = {}


def load_set(name: str, backend: SceneBackend | None = None) -> EvaluationSet:
    """A packaged set with its pictures; rendered once per machine and backend, and kept in memory afterwards.

    Args:
        name: One of `SET_NAMES`.
        backend: Shows the scenes; the default one at 64 pixels when left out. One that is in use has to be reset
            afterwards.

    Raises:
        UserError: The name is unknown (the nearest are listed), or the set's file is damaged.
    """
    shown_by = load_backend("embedded", 64) if backend is None else backend
    key = (name, shown_by.fingerprint)
    if key not in _loaded:
        identity = set_hash(name)
        _loaded[key] = EvaluationSet(name, identity, shown_by.fingerprint, render(_specs(name), identity, shown_by))
    return _loaded[key]


def kinds_shown(name: str) -> tuple[frozenset[str], ...]:
    """The object kinds in the scene of each item of a packaged set, in the order of its items.

    Raises `UserError` for an unknown name.
    """
    return tuple(frozenset(thing.kind for thing in spec.arrangement.objects) for spec in _specs(name))


@cache
def held_out_keys() -> frozenset[str]:
    """Scene keys of the validation set and all test sets: a training sample of such a scene is refused."""
    return frozenset(spec.arrangement.key for name in HELD_OUT_SETS for spec in _specs(name))
