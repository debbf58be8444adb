"""open_clip's BPE tokenizer with its ids packed into a small table, for models with a small vocabulary.

CLIP's 49,408-word embedding would be 6 of the tiny model's 7 million parameters, nearly all never used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rls3_registry.errors import UserError
from rls3_registry.reading import parse_json, read_bytes

PAD, UNKNOWN = 0, 1
BPE_SIZE = 49_408
"""Word pieces of CLIP's own vocabulary."""
MOST_BYTES = 2**20


class CompactTokenizer:
    """Maps captions to (n, context_length) int64 ids: 0 padding, 1 unknown, then the known BPE ids in order.

    Order is kept, so the end-of-text token has the highest id, as CLIP's pooling expects.
    """

    def __init__(self, bpe_ids: Iterable[int], context_length: int) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._bpe = SimpleTokenizer()
        known = sorted(set(bpe_ids) | {self._bpe.sot_token_id, self._bpe.eot_token_id})
        self._compact = {bpe: i + 2 for i, bpe in enumerate(known)}
        self.context_length = context_length
        self._seen: dict[str, list[int]] = {}

    @classmethod
    def for_texts(cls, texts: Iterable[str], context_length: int) -> CompactTokenizer:
        """The smallest tokenizer that knows every word piece of `texts`."""
        from open_clip.tokenizer import SimpleTokenizer

        bpe = SimpleTokenizer()
        return cls({i for text in texts for i in bpe.encode(text)}, context_length)

    @classmethod
    def load(cls, path: Path, context_length: int) -> CompactTokenizer:
        """Read the BPE ids that `save` wrote. Raises `UserError` for a file that holds anything else."""
        content = parse_json(read_bytes(path, MOST_BYTES), f"{path}:")
        ids = content.get("bpe_ids") if isinstance(content, dict) else None
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < BPE_SIZE for i in ids):
            raise UserError(f"{path}: should hold bpe_ids, a list of whole numbers below {BPE_SIZE:,}")
        return cls(ids, context_length)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"bpe_ids": sorted(self._compact)}) + "\n", encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        return len(self._compact) + 2

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids, (n, context_length) int64; longer texts are cut, keeping the end-of-text token."""
        rows = torch.full((len(texts), self.context_length), PAD, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = self._encode(text)
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def _encode(self, text: str) -> list[int]:
        ids = self._seen.get(text)
        if ids is None:
            bpe = [self._bpe.sot_token_id, *self._bpe.encode(text)[: self.context_length - 2], self._bpe.eot_token_id]
            ids = [self._compact.get(i, UNKNOWN) for i in bpe]
            if len(self._seen) < 200_000:
                self._seen[text] = ids
        return ids
