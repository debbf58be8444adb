"""Building the evaluation sets: from their own seeds, by a balanced generator, never by an agent.

Balanced sets give captions of one, two and three terms equal shares, and every relation cell of a complexity the
same number of items (within one). Each term then holds a third of the two-term captions and half of the three-term
ones, so the terms are balanced too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.random import Generator

from rls3_gym.backends.base import Frame, SceneBackend, load_backend
from rls3_gym.evalsets.specs import SETS_FOLDER, ItemSpec, hash_of, rounded, write_specs
from rls3_gym.runs.directory import write_text
from rls3_gym.scene.arrangement import Arrangement, check, free_surfaces_at, place
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import family_names, layouts
from rls3_gym.scene.natural import PairRule, natural_proposals
from rls3_gym.scene.proposals import arrangement_for_relation, edit_at, random_arrangement, random_points
from rls3_gym.scene.relations import RELATIONS, Relation, margin_deg
from rls3_gym.scene.rooms import Layout, Split
from rls3_gym.scene.splits import any_pair, is_held_out_pair, may_train
from rls3_gym.stage import FeasibilityRules, Stage
from rls3_registry.errors import UserError

Progress = Callable[[str, int, int], None]
"""Called with the set's name, the items found so far and the items wanted."""

IMAGE_SIZE = 64
"""Picture size, pixels, at which the visibility rules are applied."""
EPISODE = 32
"""Edits between two scenes of the natural set: the environment's default episode."""
KEEP_EVERY = 4
"""Of the natural set's samples every fourth is kept: consecutive ones share two objects."""
_TURNS = 400
_PAIR_TRIES = 200
_THIRD_TRIES = 60
_SCENES = 400_000
_EDITS_PER_SCENE = 48
_MARGIN_SLACK_DEG = 0.2
"""Rounding to the millimeter may take this much of a pair's angular margin, degrees."""


@dataclass(frozen=True)
class SetPlan:
    """How one set is made."""

    name: str
    seed: int
    split: Split
    count: int
    about: str


def _unseen_pairs(kind_a: str, kind_b: str) -> bool:
    catalog = load_catalog()
    return catalog[kind_a].held_out or catalog[kind_b].held_out


PLANS: tuple[SetPlan, ...] = (
    SetPlan("test", 7101, "test", 2448, "balanced over 26 relation cells; test layouts, held-out object pairs"),
    SetPlan("test_natural", 7102, "test", 2400, "uniform random edits, as the random sampler makes them; test layouts"),
    SetPlan("test_unseen_kinds", 7103, "test", 1224, "balanced; test layouts, a held-out kind in each pair"),
    SetPlan("validation", 7104, "validation", 768, "balanced; validation layouts, training pairs"),
    SetPlan("guide", 7105, "train", 768, "balanced; training layouts and pairs, for rewards that need a guide set"),
    SetPlan("test_balanced_natural", 7107, "test", 1224, "as test, but selected from uniform random edits"),
    SetPlan("presence", 7106, "test", 2016, "which objects are there: true caption against one with an object swapped"),
)
_PAIRS: dict[str, PairRule] = {
    "test": is_held_out_pair,
    "test_balanced_natural": is_held_out_pair,
    "test_unseen_kinds": _unseen_pairs,
    "validation": may_train,
    "guide": may_train,
    "presence": any_pair,
}


def cell_counts(total: int) -> list[int]:
    """Items per relation cell, in the order of `RELATIONS`: equal complexities, equal cells in each, within one."""
    counts = [0] * len(RELATIONS)
    for complexity in (1, 2, 3):
        cells = [r.index for r in RELATIONS if r.complexity == complexity]
        share = total // 3 + (complexity <= total % 3)
        for position, cell in enumerate(cells):
            counts[cell] = share // len(cells) + (position < share % len(cells))
    return counts


def build_sets(folder: Path = SETS_FOLDER, progress: Progress | None = None, command: str = "rls3 testsets") -> None:
    """Build every set and the manifest into `folder` (by default, into the package).

    `command` is written into the manifest as the way to repeat it. Raises `UserError` when some relation fits into no
    room, or when the folder can't be written.
    """
    backend = load_backend("embedded", IMAGE_SIZE)
    manifest: dict[str, dict[str, object]] = {}
    built: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for plan in PLANS:
            specs = build_set(plan, backend, progress)
            keys = {spec.arrangement.key for spec in specs}
            if len(keys) < len(specs) or keys & built:
                raise UserError(f"set {plan.name!r}: a scene occurs twice; change the set's seed")
            built |= keys
            write_specs(folder / f"{plan.name}.jsonl.gz", specs)
            manifest[plan.name] = {
                "about": plan.about,
                "hash": hash_of(specs),
                "items": len(specs),
                "seed": plan.seed,
                "split": plan.split,
            }
        text = yaml.safe_dump({"command": command, "sets": manifest}, sort_keys=False, width=110)
        write_text(folder / "manifest.yaml", text)
    except OSError as error:
        raise UserError(f"{folder}: evaluation sets can't be written ({error.strerror or error})") from error
    finally:
        backend.close()


def build_set(plan: SetPlan, backend: SceneBackend, progress: Progress | None = None) -> tuple[ItemSpec, ...]:
    """The items of one plan, in their final order."""
    rng = np.random.default_rng(plan.seed)

    def report(found: int) -> None:
        if progress is not None:
            progress(plan.name, found, plan.count)

    if plan.name == "test_natural":
        return _natural(plan, backend, rng, report)
    if plan.name == "test_balanced_natural":
        return _selected(plan, backend, rng, report)
    return _balanced(plan, backend, rng, report)


def _balanced(
    plan: SetPlan, backend: SceneBackend, rng: Generator, report: Callable[[int], None]
) -> tuple[ItemSpec, ...]:
    """Scenes for every cell, spread evenly over the split's layouts as far as the rooms allow the cell."""
    catalog, rules, pairs = load_catalog(), FeasibilityRules(), _PAIRS[plan.name]
    kinds = [k.name for k in (catalog.kinds if plan.name == "test_unseen_kinds" else catalog.training)]
    rooms = layouts(plan.split)
    wanted = [cell for cell, count in enumerate(cell_counts(plan.count)) for _ in range(count)]
    specs: dict[int, ItemSpec] = {}
    missing = [int(i) for i in rng.permutation(len(wanted))]
    for turn in range(_TURNS):
        for number, layout in enumerate(rooms):
            here = [item for position, item in enumerate(missing) if (position + turn) % len(rooms) == number]
            candidates = {item: _scene(rng, layout, RELATIONS[wanted[item]], kinds, pairs, rules) for item in here}
            for item, scene in _seen(candidates, backend, rules):
                absent = _swap(rng, scene) if plan.name == "presence" else None
                specs[item] = ItemSpec(scene, 0, 1, absent)
            if here:
                report(len(specs))
        missing = [item for item in missing if item not in specs]
        if not missing:
            return tuple(specs[item] for item in range(len(wanted)))
    cells = sorted({RELATIONS[wanted[item]].label for item in missing})
    raise UserError(f"set {plan.name!r}: no readable scene for {', '.join(cells)} in {_TURNS} tries of the layouts")


def _scene(
    rng: Generator, layout: Layout, wanted: Relation, kinds: Sequence[str], pairs: PairRule, rules: FeasibilityRules
) -> Arrangement | None:
    """A rounded scene whose slot 0 stands in `wanted` to slot 1, its kinds by the pair rule; None if none was found."""
    for _ in range(_PAIR_TRIES):
        kind_a, kind_b, third = (kinds[int(i)] for i in rng.choice(len(kinds), size=3, replace=False))
        if pairs(kind_a, kind_b):
            break
    else:
        raise UserError("no pair of object kinds meets the set's rule; are enough kinds registered?")
    margin = rules.ambiguity_margin_deg + _MARGIN_SLACK_DEG
    pair = arrangement_for_relation(rng, layout, (kind_a, kind_b), wanted, n=2, min_margin_deg=margin)
    if pair is None:
        return None
    for point in random_points(rng, layout, _THIRD_TRIES):
        edit = edit_at(rng, pair, 2, third, point)
        scene = place(pair, edit).arrangement if edit is not None else None
        if scene is not None:
            scene = rounded(scene)
            return scene if stands(scene) else None
    return None


def stands(scene: Arrangement) -> bool:
    """Whether a rounded scene still meets the geometric rules: supports, furniture, other objects, camera view."""
    catalog = load_catalog()
    for slot, thing in enumerate(scene.objects):
        kind = catalog[thing.kind]
        x, y, z = thing.position
        carried = any(abs(s.z - z) < 1e-3 for s in free_surfaces_at(scene.layout, kind, x, y))
        if not carried or check(scene, slot, thing, kind) is not None:
            return False
    return True


def _seen(
    scenes: Mapping[int, Arrangement | None], backend: SceneBackend, rules: FeasibilityRules
) -> Iterator[tuple[int, Arrangement]]:
    """Those scenes of one layout whose pair (slots 0 and 1) is readable in the picture."""
    fresh = True
    for item, scene in scenes.items():
        if scene is None:
            continue
        if fresh:
            backend.reset(scene, seed=scene.layout.index)
            fresh = False
        backend.apply(scene)
        if readable(backend.capture(), 0, 1, rules):
            yield item, scene


def readable(frame: Frame, slot_a: int, slot_b: int, rules: FeasibilityRules) -> bool:
    """The stage's rules for a pair: both seen well enough, and not near a sector boundary."""
    if any(rules.visibility(frame, slot) is not None for slot in (slot_a, slot_b)):
        return False
    return margin_deg(frame.offset(slot_a, slot_b)) >= rules.ambiguity_margin_deg


def _swap(rng: Generator, scene: Arrangement) -> tuple[int, str]:
    """Which of the pair the false caption replaces, and a training kind that is nowhere in the scene."""
    there = {o.kind for o in scene.objects}
    absent = [k.name for k in load_catalog().training if k.name not in there]
    return int(rng.integers(2)), absent[int(rng.integers(len(absent)))]


def _selected(
    plan: SetPlan, backend: SceneBackend, rng: Generator, report: Callable[[int], None]
) -> tuple[ItemSpec, ...]:
    """As many items of every cell as a balanced set has, each what one uniform random edit gives in a random scene.

    No sampler shares the hand that made it: where a balanced set puts both objects of a pair is its generator's way,
    here it is that of uniform actions, and only the cells are chosen.
    """
    rules, rooms = FeasibilityRules(), layouts(plan.split)
    kinds = [k.name for k in load_catalog().training]
    wanted = cell_counts(plan.count)
    found: list[list[ItemSpec]] = [[] for _ in wanted]
    margin = rules.ambiguity_margin_deg + _MARGIN_SLACK_DEG
    for turn in range(_SCENES):
        layout = rooms[turn % len(rooms)]
        before = random_arrangement(rng, layout, kinds)
        proposals = natural_proposals(rng, before, kinds, _EDITS_PER_SCENE, _PAIRS[plan.name], margin)
        # One item a scene, of the cell that is farthest behind: rare cells take what they can get.
        behind = [wanted[int(cell)] - len(found[int(cell)]) for cell in proposals.relations]
        if not behind or max(behind) <= 0:
            continue
        edit = proposals.edit(int(np.argmax(behind)))
        scene = place(before, edit).arrangement
        reference = edit.reference
        if scene is None or reference is None:
            continue
        scene = rounded(scene)
        if not stands(scene):
            continue
        backend.reset(scene, seed=layout.index)
        if readable(backend.capture(), edit.slot, reference, rules):
            cell = int(proposals.relations[int(np.argmax(behind))])
            found[cell].append(ItemSpec(scene, edit.slot, reference))
            report(sum(len(items) for items in found))
            if all(len(items) == count for items, count in zip(found, wanted, strict=True)):
                return tuple(item for items in found for item in items)
    missing = [RELATIONS[c].label for c, items in enumerate(found) if len(items) < wanted[c]]
    raise UserError(f"set {plan.name!r}: uniform edits gave too few of {', '.join(missing)} in {_SCENES} scenes")


def _natural(
    plan: SetPlan, backend: SceneBackend, rng: Generator, report: Callable[[int], None]
) -> tuple[ItemSpec, ...]:
    """What uniform random edits give in episodes of the default length, thinned out."""
    rules = FeasibilityRules()
    stage = Stage(backend, families=family_names(), split=plan.split, rules=rules)
    specs: list[ItemSpec] = []
    while True:
        stage.set_scene(rng)
        valid = 0
        for _ in range(EPISODE):
            sample = stage.try_edit(stage.random_edit(rng), rng).sample
            valid += sample is not None
            if sample is None or valid % KEEP_EVERY:
                continue
            scene = rounded(stage.arrangement)
            backend.apply(scene)
            if stands(scene) and readable(backend.capture(), sample.slot_a, sample.slot_b, rules):
                specs.append(ItemSpec(scene, sample.slot_a, sample.slot_b))
            if len(specs) == plan.count:
                report(plan.count)
                return tuple(specs)
        report(len(specs))
