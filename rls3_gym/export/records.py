"""The samples of a run as records: all that is known about each, in plain values that every format can hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rls3_gym.runs.directory import RunDirectory, read_text
from rls3_gym.runs.rows import Metrics, SampleRow, read_metrics
from rls3_gym.runs.samples import has_samples, read_samples
from rls3_gym.runs.taught import written_config
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.captions import describe, negatives
from rls3_gym.scene.relations import relation
from rls3_registry.errors import UserError

LICENSE = "Apache-2.0"
"""Of pictures and captions: that of the package, whose rooms and objects they show."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which samples of a run."""

    first: int = 0
    end: int | None = None
    """Rounds from `first` up to and without `end`; the run's first round is 0. None: to the last one."""
    limit: int | None = None
    """At most so many, the earliest."""

    @classmethod
    def parse(cls, rounds: str | None, limit: int | None) -> Selection:
        """From `a:b`, `a:`, `:b` or None. Raises `UserError`."""
        first, separator, end = (rounds or ":").partition(":")
        words = [word.strip() for word in (first, end)]
        if not separator or not all(word.isdecimal() or not word for word in words):
            raise UserError(f"--rounds {rounds}: must look like a:b, the rounds from a up to and without b, from 0")
        return cls(int(words[0] or 0), int(words[1]) if words[1] else None, limit)

    def rows(self, run: RunDirectory) -> Iterator[SampleRow]:
        """The samples, in the order in which they were made."""
        taken = 0
        for row in read_samples(run):
            if taken == self.limit:
                return
            if row.round >= self.first and (self.end is None or row.round < self.end):
                taken += 1
                yield row


@dataclass(frozen=True)
class RunFacts:
    """What the samples of a run have in common."""

    directory: RunDirectory
    name: str
    """Of the experiment."""
    agent: str
    seed: int
    world: str
    """Fingerprint of the backend that took the pictures."""
    package: str
    """Name and version of the package that made the run, and the commit where it is known."""
    command: str
    """That began the run."""
    digests: dict[int, str]
    """Of the VLM's weights, by the round in which a sample was made."""

    @classmethod
    def read(cls, path: Path) -> RunFacts:
        """Raises `UserError` for a folder that is not a run directory, or when its files are damaged."""
        run = RunDirectory(path)
        run.check_has(run.config, run.metrics)
        if not has_samples(run):
            run.check_has(run.sample_table)
        config, metrics = written_config(run), read_metrics(run.metrics)
        known = dict(line.split(" ", 1) for line in read_text(run.environment).splitlines() if " " in line)
        commit = f" ({known['commit']})" if "commit" in known else ""
        return cls(
            directory=run,
            name=config.name,
            agent=config.agent.name,
            seed=config.seed,
            world=next((rows[0].backend for rows in metrics.evaluations.values()), "unknown"),
            package=f"rls3_gym {known.get('rls3_gym', 'of an unknown version')}{commit}",
            command=(read_text(run.command).splitlines() or ["unknown"])[0],
            digests=_digests(metrics),
        )

    def record(self, row: SampleRow, arrangement: Arrangement) -> Record:
        """All that is known about a sample, but for its picture.

        Raises `UserError` when the scene does not bear out the caption.
        """
        camera, a, b = arrangement.layout.camera, row.slot_a, row.slot_b
        # As a frame has them, not as the row rounds them: a tiny distance may decide which captions are false.
        places = arrangement.camera_positions().astype(np.float32).astype(np.float64)
        offset = places[a] - places[b]
        kind_a, kind_b = arrangement.objects[a].kind, arrangement.objects[b].kind
        is_so = relation(offset)
        if describe(kind_a, is_so, kind_b) != row.caption:
            raise UserError(
                f"{self.directory.samples}: sample {row.n_generated}: the scene does not bear out {row.caption!r}"
            )
        false = negatives(kind_a, kind_b, offset)
        return {
            "key": f"{row.n_generated:08d}",
            "caption": row.caption,
            "false": [n.caption for n in false],
            "negatives": [
                {
                    "caption": n.caption,
                    "change": n.change.value,
                    "term": None if n.term is None else n.term.name.lower(),
                }
                for n in false
            ],
            "relation": is_so.label,
            "terms": [term.name.lower() for term in is_so.terms],
            "cell": is_so.index,
            "kind_a": kind_a,
            "kind_b": kind_b,
            "slot_a": a,
            "slot_b": b,
            "offset": list(row.offset),
            "objects": [thing._asdict() for thing in row.objects],
            "visible": list(row.visible),
            "pixels": list(row.pixels),
            "camera": {
                **dict(zip("xyz", camera.eye, strict=True)),
                "heading": camera.heading,
                "pitch": camera.pitch,
                "fov_deg": float(camera.fov_deg),
            },
            "family": row.family,
            "layout": row.layout,
            "split": row.split,
            "scene_key": row.scene_key,
            "correct": row.correct,
            "margin": row.margin,
            "hardest_negative": row.hardest_negative,
            "vlm_digest": self.digests.get(row.round),
            "round": row.round,
            "n_generated": row.n_generated,
            "seed": self.seed,
            "world": self.world,
            "package": self.package,
            "command": self.command,
            "license": LICENSE,
        }


def _digests(metrics: Metrics) -> dict[int, str]:
    measured = {row.round: row.vlm_digest for rows in metrics.evaluations.values() for row in rows}
    return measured | {row.round: row.digest_after for row in metrics.finetunes}
