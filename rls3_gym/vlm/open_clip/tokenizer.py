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
_WORDS_KEPT = 50_000
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
        self._start, self._end = self._compact[self._bpe.sot_token_id], self._compact[self._bpe.eot_token_id]
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
        rows = [self._encode(text) for text in texts]
        return torch.tensor([row + [PAD] * (self.context_length - len(row)) for row in rows], dtype=torch.long)

    def _encode(self, text: str) -> list[int]:
        # No piece goes over a space, and what is cleaned away from printable ASCII is within a word: captions are of
        # few words, so cleaning and merging each word once is most of the work.
        words = text.split() if text.isascii() and text.isprintable() else [text]
        pieces = [piece for word in words for piece in self._pieces(word)][: self.context_length - 2]
        return [self._start, *pieces, self._end]

    def _pieces(self, word: str) -> list[int]:
        pieces = self._seen.get(word)
        if pieces is None:
            pieces = [self._compact.get(i, UNKNOWN) for i in self._bpe.encode(word)]
            if len(self._seen) < _WORDS_KEPT:
                self._seen[word] = pieces
        return pieces
