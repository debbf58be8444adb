"""Files as somebody careless or hostile might leave them: drawn from a generator, the same for the same seed."""

from __future__ import annotations

import re

import numpy as np

HOSTILE = (
    b".nan", b".inf", b"-.inf", b"1e999", b"-1", b"0", b"1e-300", b"99999999999999999999999", b"1.5", b"null", b"true",
    b"[]", b"{}", b"''", b"[[[]]]", b"&a [*a]", b"*a", b"&x {<<: *x}", b"!!int ''", b"!!bool z", b"!!binary '@'",
    b"!!python/object/apply:os.system [id]", b"!!set {a}", b"!!timestamp z", b"0x" + b"f" * 300, b"9" * 5000,
    b"1:" * 500 + b"1", b"2001-99-99", b"'\\ud800'", b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b"\x00", b"\t", b"? ",
    b"- ", b"|", b">", b"%YAML 9.9", b"---\n", b"@", b"`", b"{a: " * 300, b"[" * 3000, b"../../../etc/passwd",
    b"/dev/zero", b"a:b:c", b"evil:Evil", b"x" * 3000, b"NaN", b"Infinity", b'{"a":' * 500,
)  # fmt: skip
_VALUE = re.compile(rb"[\w.+-]+|'[^'\n]*'|\"[^\"\n]*\"")


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to four changes: values, keys, lines, parts, bytes."""
    for _ in range(int(rng.integers(1, 5))):
        content = _CHANGES[int(rng.integers(len(_CHANGES)))](content, rng)
    return content


def _hostile(rng: np.random.Generator) -> bytes:
    return HOSTILE[int(rng.integers(len(HOSTILE)))]


def _value(content: bytes, rng: np.random.Generator) -> bytes:
    """One word, number or quoted text becomes something hostile."""
    found = list(_VALUE.finditer(content))
    if not found:
        return content + _hostile(rng)
    start, end = found[int(rng.integers(len(found)))].span()
    return content[:start] + _hostile(rng) + content[end:]


def _swap(content: bytes, rng: np.random.Generator) -> bytes:
    """One value takes the place of another."""
    found = list(_VALUE.finditer(content))
    if len(found) < 2:
        return content
    (a, b), (c, d) = (found[int(i)].span() for i in rng.integers(len(found), size=2))
    return content[:a] + content[c:d] + content[b:]


def _line(content: bytes, rng: np.random.Generator) -> bytes:
    """A line is lost, doubled, moved, or indented otherwise."""
    lines = content.split(b"\n")
    at, to = (int(i) for i in rng.integers(len(lines), size=2))
    match int(rng.integers(4)):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines.insert(to, lines.pop(at))
        case _:
            lines[at] = b" " * int(rng.integers(1, 9)) + lines[at].lstrip()
    return b"\n".join(lines)


def _part(content: bytes, rng: np.random.Generator) -> bytes:
    """A part is lost, or the rest is."""
    start, end = sorted(int(i) for i in rng.integers(len(content) + 1, size=2))
    return content[:start] if rng.random() < 0.3 else content[:start] + content[min(end, start + 200) :]


def _bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes are others."""
    if not content:
        return content
    changed = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(len(changed), size=int(rng.integers(1, 6)))
    changed[places] = rng.integers(256, size=len(places))
    return changed.tobytes()


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(content) + 1))
    return content[:at] + _hostile(rng) + content[at:]


_CHANGES = (_value, _value, _value, _swap, _line, _part, _bytes, _insert)
