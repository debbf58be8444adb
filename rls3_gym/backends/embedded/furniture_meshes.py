"""What furniture and the room's shell look like: one builder per furniture type, and `build_room`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rls3_gym.backends.embedded.meshes import Part
from rls3_gym.backends.embedded.room_shapes import (
    Kit,
    ShapedPart,
    cushion,
    cylinder,
    in_room,
    lathe,
    shade,
    slab,
    sphere,
)
from rls3_gym.scene.furniture import TYPES, Box
from rls3_gym.scene.rooms import Color, Layout, Piece

STEEL: Color = (0.62, 0.63, 0.65)
DARK: Color = (0.16, 0.16, 0.17)
WHITE: Color = (0.93, 0.92, 0.9)
THICK = 0.05
"""Thickness of the room's floor and walls, meters."""


def _solids(kit: Kit) -> list[Box]:
    return TYPES[kit.piece.type].shape(kit.size).solids


def _board_on_legs(kit: Kit) -> None:
    """First solid is the board (color), the others legs (accent)."""
    p, (board, *legs) = kit.piece, _solids(kit)
    kit.boxes([board], p.color, p.texture, 0.12)
    if kit.size.options.get("legs") == "pedestal":
        r = legs[1][1]
        profile = [(0.0, 0.0), (r, 0.0), (r * 0.9, 0.025), (0.05, 0.06), (0.045, board[4]), (0.0, board[4])]
        kit.add(lathe(profile), p.accent)
    else:
        kit.boxes(legs, p.accent, p.texture)
    if kit.piece.type in ("table", "side_table") and kit.size.options.get("legs") != "pedestal" and kit.size.h > 0.5:
        x0, x1, y0, y1, z0, _ = board
        kit.boxes([(x0 + 0.04, x1 - 0.04, y, y + 0.02, z0 - 0.06, z0) for y in (y0 + 0.03, y1 - 0.05)], p.accent)
    if kit.size.options.get("cloth"):
        x0, x1, y0, y1, _, z1 = board
        runner = (x0 - 0.005, x1 + 0.005, (y0 + y1) / 2 - 0.11, (y0 + y1) / 2 + 0.11, z1 - 0.12, z1 + 0.003)
        kit.boxes([runner], (0.86, 0.82, 0.76), "fabric", 0.0)


def _stool(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    kit.add(cylinder(s.w / 2, 0.035, segments=24).moved(z=s.h - 0.035), p.color, p.texture, 0.1)
    kit.boxes(
        [(x - 0.015, x + 0.015, y - 0.015, y + 0.015, 0.0, s.h - 0.03)
         for x in (-s.w * 0.3, s.w * 0.3) for y in (-s.d * 0.3, s.d * 0.3)], p.accent,
    )  # fmt: skip


def _chair(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    seat, *rest = _solids(kit)
    legs, back = rest[:4], rest[4]
    x0, x1, y0, y1, z0, z1 = back
    kit.boxes([seat], p.accent, "fabric")
    posts = [(x0, x0 + 0.035, y0, y1, z0, z1), (x1 - 0.035, x1, y0, y1, z0, z1)]
    rails = [(x0, x1, y0, y1, z1 - 0.08, z1), (x0, x1, y0, y1, z0 + 0.12, z0 + 0.15)]
    slats = [(x - 0.012, x + 0.012, y0 + 0.01, y1 - 0.01, z0 + 0.13, z1 - 0.05) for x in (-s.w / 5, 0.0, s.w / 5)]
    kit.boxes([*legs, *posts, *rails, *slats], p.color, p.texture, 0.1)


def _bench(kit: Kit) -> None:
    kit.boxes(_solids(kit), kit.piece.color, kit.piece.texture)


def _sofa(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    seat, left, right, back = _solids(kit)
    kit.add(cushion((*back[:4], 0.05, s.h), 0.28), p.color, p.texture, 0.0)
    for arm in (left, right):
        kit.add(cushion((*arm[:4], 0.04, arm[5]), 0.3, 10), p.color, p.texture, 0.0)
    base = (seat[0] + 0.05, seat[1] - 0.05, seat[2] + 0.03, seat[3] - 0.05, 0.05, s.h * 0.54 - 0.015)
    kit.boxes([base], shade(p.color, 0.9))
    seats = int(s.options.get("seats", 2))
    x0, x1, z0 = left[1], right[0], s.h * 0.34
    step = (x1 - x0) / seats
    for k in range(seats):
        a = x0 + k * step
        front = (a + 0.003, a + step - 0.003, seat[2], back[2] + 0.02, z0, s.h * 0.54)
        kit.add(cushion(front, 0.16, 12), shade(p.color, 1.06), p.texture, 0.0)
        rest = (a + 0.01, a + step - 0.01, back[2] - 0.03, back[2] + 0.09, s.h * 0.56, s.h * 0.97)
        kit.add(cushion(rest, 0.35, 10), shade(p.color, 1.06), p.texture, 0.0)
    corners = [(x, y) for x in (-s.w / 2 + 0.04, s.w / 2 - 0.08) for y in (-s.d / 2 + 0.04, s.d / 2 - 0.08)]
    kit.boxes([(x, x + 0.04, y, y + 0.04, 0.0, 0.06) for x, y in corners], p.accent)


def _bed(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    frame, head, pillow = _solids(kit)
    x0, x1, y0, y1, _, top = frame
    kit.boxes([(x0, x1, y0, y1, 0.08, top * 0.55), head], p.accent, "wood", 0.1)
    legs = [(x, x + 0.05, y, y + 0.05) for x in (x0 + 0.005, x1 - 0.055) for y in (y0 + 0.005, y1 - 0.055)]
    kit.boxes([(*leg, 0.0, 0.09) for leg in legs], p.accent)  # set in: legs flush with the frame would flicker
    kit.add(cushion((x0 + 0.01, x1 - 0.01, y0 + 0.01, y1 - 0.04, top * 0.45, top - 0.012), 0.12), WHITE, "fabric", 0.0)
    fold = y1 - 0.46
    kit.add(cushion((x0 - 0.015, x1 + 0.015, y0 - 0.015, fold, top * 0.42, top), 0.1), p.color, p.texture, 0.0)
    kit.boxes([(x0 - 0.012, x1 + 0.012, fold - 0.02, fold + 0.08, top * 0.6, top - 0.004)], WHITE, "fabric", 0.0)
    count = 2 if s.w > 0.85 else 1
    step = (pillow[1] - pillow[0]) / count
    for k in range(count):
        a = pillow[0] + k * step
        shape = (a + 0.01, a + step - 0.01, pillow[2], pillow[3] + 0.02, top - 0.02, pillow[5] + 0.02)
        kit.add(cushion(shape, 0.55, 12), WHITE, "fabric", 0.0)


def _fronts(kit: Kit, columns: int, rows: int, z0: float, z1: float, panels: bool = False) -> None:
    """Doors (one row) or drawers on the front, with handles; `panels` gives doors a raised frame."""
    p, s = kit.piece, kit.size
    y, gap = -s.d / 2, 0.012
    step_x, step_z = s.w / columns, (z1 - z0) / rows
    doors, frames, handles = [], [], []
    for i in range(columns):
        for j in range(rows):
            a, b = -s.w / 2 + i * step_x + gap, -s.w / 2 + (i + 1) * step_x - gap
            c, d = z0 + j * step_z + gap, z0 + (j + 1) * step_z - gap
            doors.append((a, b, y - 0.012, y, c, d))
            if panels:
                frames.append((a + 0.06, b - 0.06, y - 0.015, y, c + 0.06, d - 0.06))
            if d - c > 0.35:
                x = b - 0.05 if i % 2 == 0 else a + 0.05
                handles.append((x - 0.009, x + 0.009, y - 0.032, y, (c + d) / 2, min((c + d) / 2 + 0.14, d - 0.03)))
            else:
                m, reach = (a + b) / 2, min(0.07, (b - a) / 4)
                handles.append((m - reach, m + reach, y - 0.032, y, (c + d) / 2 - 0.008, (c + d) / 2 + 0.01))
    kit.boxes(doors, shade(p.color, 1.06), p.texture, 0.1)
    kit.boxes(frames, shade(p.color, 0.84), p.texture, 0.05)
    kit.boxes(handles, (0.35, 0.33, 0.3), None, 0.4)


def _counter(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    x, y = s.w / 2, s.d / 2
    kit.boxes([(-x, x, -y + 0.012, y, 0.07, s.h - 0.04)], shade(p.color, 0.8), p.texture)
    kit.boxes([(-x, x, -y + 0.06, y, 0.0, 0.07)], DARK)
    kit.boxes([(-x, x, -y - 0.02, y, s.h - 0.04, s.h)], p.accent, "marble" if p.texture is None else "wood", 0.25)
    _fronts(kit, int(s.options.get("doors", 3)), 1, 0.08, s.h - 0.05, bool(s.options.get("panels", False)))
    if s.options.get("sink", False):
        # Flat, so that objects can stand anywhere on the counter; the tap is at the wall.
        kit.boxes([(-0.22, 0.22, -y + 0.07, y - 0.12, s.h, s.h + 0.002)], (0.5, 0.51, 0.53), None, 0.5)
        kit.boxes([(-0.19, 0.19, -y + 0.1, y - 0.15, s.h, s.h + 0.003)], (0.3, 0.31, 0.33), None, 0.3)
        pipe = (-0.012, 0.012, y - 0.06, y - 0.04, s.h, s.h + 0.24)
        spout = (-0.012, 0.012, y - 0.16, y - 0.04, s.h + 0.22, s.h + 0.24)
        kit.boxes([pipe, spout], STEEL, None, 0.6)


def _stove(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    x, y, h = s.w / 2, s.d / 2, s.h
    kit.boxes([(-x, x, -y, y, 0.05, h - 0.02)], p.color, None, 0.35)
    kit.boxes([(-x + 0.03, x - 0.03, -y + 0.05, y, 0.0, 0.05)], DARK)
    kit.boxes([(-x, x, -y, y, h - 0.02, h)], DARK, None, 0.4)
    for px in (-x / 2, x / 2):
        for py in (-y / 2, y / 2):
            kit.add(cylinder(min(s.w, s.d) * 0.17, 0.003, segments=20).moved(px, py, h), (0.33, 0.33, 0.34), None, 0.3)
    for k in range(5):
        knob = cylinder(0.022, 0.03, segments=10).moved((k - 2) * s.w / 6, -y, h - 0.075)
        kit.add(replace(knob, rotate_deg=(90.0, 0.0, 0.0)), p.accent, None, 0.4)
    doors = [(-x + 0.06, x - 0.06)] if not s.options.get("range") else [(-x + 0.03, -0.015), (0.015, x - 0.03)]
    for a, b in doors:
        if s.options.get("range"):
            leaves = [(a, b, -y - 0.015, -y, 0.1, h * 0.42), (a, b, -y - 0.015, -y, h * 0.46, h - 0.13)]
            kit.boxes(leaves, shade(p.color, 1.08), None, 0.4)
        else:
            kit.boxes([(a, b, -y - 0.01, -y, 0.16, h - 0.2)], DARK, None, 0.5)
        kit.boxes([(a, b, -y - 0.045, -y - 0.025, h - 0.17, h - 0.15)], STEEL, None, 0.6)


def _cabinet(kit: Kit) -> None:
    """Dresser, nightstand, sideboard, wardrobe: a box with drawers or doors, on short feet."""
    p, s = kit.piece, kit.size
    x, y = s.w / 2, s.d / 2
    foot = 0.05 if p.type == "wardrobe" else 0.08
    kit.boxes([(-x, x, -y + 0.012, y, foot, s.h - 0.03)], shade(p.color, 0.9), p.texture)
    kit.boxes([(-x, x, -y - 0.015, y, s.h - 0.03, s.h)], p.accent, p.texture, 0.15)
    kit.boxes([(a, a + 0.05, b, b + 0.05, 0.0, foot) for a in (-x, x - 0.05) for b in (-y + 0.02, y - 0.05)], p.accent)
    if p.type in ("dresser", "nightstand"):
        columns = 2 if s.w > 0.65 else 1
        _fronts(kit, columns, int(s.options.get("drawers", 3)), foot, s.h - 0.04)
    else:
        _fronts(kit, int(s.options.get("doors", 3)), 1, foot, s.h - 0.04, bool(s.options.get("panels", True)))


def _wall_shelf(kit: Kit) -> None:
    p, (board,) = kit.piece, _solids(kit)
    x0, x1, y0, y1, z0, _ = board
    kit.boxes([board], p.color, p.texture, 0.1)
    brackets = []
    for x in (x0 + 0.1, x1 - 0.12):
        brackets += [(x, x + 0.02, y1 - 0.02, y1, z0 - 0.15, z0), (x, x + 0.02, y0 + 0.08, y1, z0 - 0.02, z0)]
    kit.boxes(brackets, p.accent)


def _shelf_unit(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    back, *rest = _solids(kit)
    kit.boxes([back], shade(p.color, 0.82), p.texture)
    kit.boxes(rest, p.color, p.texture, 0.1)
    if s.options.get("base", False):
        _fronts(kit, 2, 1, 0.03, s.h / int(s.options.get("boards", 2)) - 0.03, True)


def _window(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    x, y, h = s.w / 2, s.d / 2, s.h
    kit.boxes([(-x - 0.03, x + 0.03, -y, y, 0.0, 0.04)], p.color, p.texture, 0.15)
    middle = 0.04 + (h - 0.04) * 0.3
    kit.boxes([(-x, x, y - 0.006, y, middle, h)], (0.8, 0.9, 0.98), None, 0.3)
    kit.boxes([(-x, x, y - 0.006, y, 0.04, middle)], (0.72, 0.82, 0.7), None, 0.2)
    panes = int(s.options.get("panes", 2))
    bars = [(x0 - 0.018, x0 + 0.018, y - 0.03, y, 0.04, h) for x0 in (-x + 2 * x * k / panes for k in range(1, panes))]
    bars += [(-x, x, y - 0.03, y, 0.04 + h * 0.5, 0.07 + h * 0.5)]
    frame = [(-x - 0.03, -x + 0.02, y - 0.04, y, 0.0, h), (x - 0.02, x + 0.03, y - 0.04, y, 0.0, h)]
    kit.boxes([*bars, *frame, (-x - 0.03, x + 0.03, y - 0.04, y, h - 0.04, h)], p.accent, None, 0.1)


def _fireplace(kit: Kit) -> None:
    p = kit.piece
    (x0, x1, y0, y1, _, z1), mantel = _solids(kit)
    wide, tall = (x1 - x0) * 0.27, z1 * 0.62
    breast = [(x0, -wide, y0, y1, 0.0, z1), (wide, x1, y0, y1, 0.0, z1), (-wide, wide, y0, y1, tall, z1)]
    kit.boxes(breast, p.color, p.texture)
    kit.boxes([(-wide, wide, y1 - 0.05, y1, 0.0, tall), (-wide, wide, y0 + 0.01, y1, 0.0, 0.03)], (0.1, 0.09, 0.09))
    kit.boxes([mantel], p.accent, "wood", 0.1)
    for k, x in enumerate((-wide * 0.4, wide * 0.1, wide * 0.4)):
        log = cylinder(0.035, wide * 0.9, segments=8).moved(x - wide * 0.45, y0 + 0.08, 0.07 + 0.02 * k)
        kit.add(replace(log, rotate_deg=(0.0, 90.0, 8.0 * k)), (0.36, 0.25, 0.17))
    flame = lathe([(0.0, 0.0), (0.05, 0.04), (0.035, 0.12), (0.0, 0.24)], 10)
    for x, size in ((-0.06, 0.85), (0.05, 1.0), (0.0, 1.2)):
        kit.add(replace(flame.moved(x, y0 + 0.1, 0.08), scale=size), (1.0, 0.62, 0.25), None, 0.0)


def _fridge(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    x, y = s.w / 2, s.d / 2
    kit.boxes([s.block(0.03)], p.color, None, 0.35)
    split = s.h * 0.36
    doors = ((0.05, split - 0.008), (split + 0.008, s.h - 0.01))
    kit.boxes([(-x + 0.006, x - 0.006, -y - 0.02, -y, a, b) for a, b in doors], shade(p.color, 1.05), None, 0.35)
    handles = ((split - 0.3, split - 0.05), (split + 0.05, split + 0.45))
    kit.boxes([(-x + 0.05, -x + 0.08, -y - 0.06, -y - 0.02, a, b) for a, b in handles], p.accent, None, 0.6)


def _hood(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    kit.boxes([s.block(0.0, 0.07)], p.color, None, 0.4)
    kit.boxes([(-s.w * 0.22, s.w * 0.22, s.d / 2 - 0.24, s.d / 2, 0.07, s.h)], shade(p.color, 1.05), None, 0.4)


def _screen(kit: Kit) -> None:
    kit.boxes([kit.size.block()], DARK, None, 0.2)
    s = kit.size
    glass = (-s.w / 2 + 0.02, s.w / 2 - 0.02, -s.d / 2 - 0.003, 0.0, 0.03, s.h - 0.02)
    kit.boxes([glass], (0.2, 0.23, 0.28), None, 0.6)


def _pendant(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    r = s.w / 2
    shade_height = r * 0.9
    profile = [(r, 0.0), (r * 0.35, shade_height), (0.02, shade_height + 0.02), (0.0, shade_height + 0.02)]
    kit.add(lathe(profile, 24), p.color, None, 0.2)
    kit.add(sphere((0.05, 0.05, 0.05), 12).moved(z=0.05), (1.0, 0.95, 0.8), None, 0.0)
    kit.add(cylinder(0.008, s.h, segments=6).moved(z=shade_height), DARK)


def _floor_lamp(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    r = s.w / 2
    kit.add(cylinder(0.12, 0.025, segments=20), p.accent, None, 0.3)
    kit.add(cylinder(0.014, s.h - 0.2, segments=8), p.accent, None, 0.3)
    kit.add(lathe([(r, s.h - 0.25), (r * 0.62, s.h), (0.0, s.h)], 24), p.color, "fabric", 0.0)


def _panel(kit: Kit) -> None:
    kit.boxes([kit.size.block()], kit.piece.color, kit.piece.texture, 0.15)


def _picture(kit: Kit) -> None:
    """A framed landscape: sky, hills, and a strip of land."""
    p, s = kit.piece, kit.size
    kit.boxes([s.block()], p.accent, None, 0.1)
    x, y, h = s.w / 2 - 0.035, -s.d / 2, s.h
    kit.boxes([(-x, x, y - 0.002, y, 0.035, h - 0.035)], WHITE)
    a, b = 0.08, h - 0.08
    kit.boxes([(-x + 0.045, x - 0.045, y - 0.004, y, a, b)], shade(p.color, 1.15))
    kit.boxes([(-x + 0.045, x - 0.045, y - 0.006, y, a, a + (b - a) * 0.45)], shade(p.color, 0.72))
    kit.boxes([(-x + 0.045, x * 0.2, y - 0.008, y, a, a + (b - a) * 0.25)], shade(p.color, 0.5))


def _mirror(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    kit.boxes([s.block()], p.accent, "wood", 0.1)
    kit.boxes([(-s.w / 2 + 0.05, s.w / 2 - 0.05, -s.d / 2 - 0.003, 0.0, 0.05, s.h - 0.05)], p.color, None, 0.8)


def _curtain(kit: Kit) -> None:
    """A hanging cloth with folds: a row of half-hidden columns."""
    p, s = kit.piece, kit.size
    folds = max(3, round(s.w / 0.07))
    r = s.w / folds / 2
    for k in range(folds):
        column = cylinder(r * 1.15, s.h, r * 1.0, segments=10).moved(x=-s.w / 2 + r * (2 * k + 1))
        kit.add(column, p.color if k % 2 else shade(p.color, 0.95), p.texture, 0.0)


def _rug(kit: Kit) -> None:
    p, s = kit.piece, kit.size
    kit.boxes([s.block(0.0, 0.006)], p.accent, "fabric", 0.0)
    box = (-s.w / 2 + 0.03, s.w / 2 - 0.03, -s.d / 2 + 0.03, s.d / 2 - 0.03, 0.0, 0.008)
    inner = slab(box, pattern=(s.w, s.d))
    kit.add(inner, p.color, p.texture, 0.0)


_BUILDERS: dict[str, Callable[[Kit], None]] = {
    "table": _board_on_legs, "side_table": _board_on_legs, "stool": _stool, "bench": _bench, "chair": _chair,
    "sofa": _sofa, "bed": _bed, "counter": _counter, "stove": _stove, "nightstand": _cabinet,
    "sideboard": _cabinet, "dresser": _cabinet, "wardrobe": _cabinet, "wall_shelf": _wall_shelf,
    "shelf_unit": _shelf_unit, "window": _window, "fireplace": _fireplace, "fridge": _fridge, "hood": _hood,
    "screen": _screen, "pendant": _pendant, "floor_lamp": _floor_lamp, "panel": _panel, "picture": _picture,
    "mirror": _mirror, "curtain": _curtain, "rug": _rug,
}  # fmt: skip


def furniture(piece: Piece) -> tuple[ShapedPart, ...]:
    """The parts of one piece in the piece's own frame."""
    kit = Kit(piece)
    _BUILDERS[piece.type](kit)
    return tuple(kit.parts)


def shell(room: Layout) -> tuple[ShapedPart, ...]:
    """Floor, back and side walls, skirting; the side towards the camera stays open, and so does the top."""
    x0, x1, y0, y1, h, t = room.x0, room.x1, room.y0, room.y1, room.height, THICK
    front = y0 - 1.0
    board, out = 0.07, 0.012
    walls = [(x0 - t, x1 + t, y1, y1 + t, 0.0, h), (x0 - t, x0, front, y1, 0.0, h), (x1, x1 + t, front, y1, 0.0, h)]
    footprints = ((x0, x1, y1 - out, y1), (x0, x0 + out, front, y1), (x1 - out, x1, front, y1))
    ground = slab((x0 - t, x1 + t, front, y1 + t, -t, 0.0))
    return (
        ShapedPart((ground,), room.floor.color, room.floor.texture, 0.08),
        *(ShapedPart((slab(wall),), room.walls.color, room.walls.texture, 0.0) for wall in walls),
        *(ShapedPart((slab((*footprint, 0.0, board)),), WHITE) for footprint in footprints),
    )


def build_room(layout: Layout) -> tuple[Part, ...]:
    """Floor, walls and every piece of furniture of a layout, in world coordinates."""
    pieces = (in_room(piece, part) for piece in layout.pieces for part in furniture(piece))
    return (*(part.part() for part in shell(layout)), *pieces)
