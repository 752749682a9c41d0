"""What stands where in the rendered street: the course, the buildings, trees, cars and people, as convex parts.

Axes: x right, y up, z ahead, metres. Street coordinates (s, u): s runs along z, u is the distance to the right of the
course's centre line. Everything is a function of seed and place, never of the season or of what was asked before.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from vidtrans.palettes import STREET

BOX, BALL, LEAFY, CYLINDER = range(
    4
)  # unit shapes: |x|, |y|, |z| <= 1; |p| <= 1; a ball with a ragged rim; x^2 + z^2 <= 1 and |y| <= 1
FACADE, ROOF, PLAIN, FOLIAGE, CAR_BODY, CAR_GLASS, WHEEL, SIGN = range(8)  # materials
KERB = 0.13  # metres the pavement stands above the road
CHUNK = 40.0  # metres of street that are made at once
FAR, BEHIND = 240.0, 12.0  # metres of street kept ahead of and behind the camera
LANE = 3.4  # metres

_CLASS = {name: number for number, name in enumerate(STREET.classes)}
_UPRIGHT = np.eye(3)

_CAR_COLOURS = (
    (0.02, 0.02, 0.025), (0.03, 0.03, 0.035), (0.8, 0.8, 0.8), (0.75, 0.76, 0.78), (0.25, 0.26, 0.28),
    (0.42, 0.43, 0.45), (0.1, 0.11, 0.12), (0.45, 0.02, 0.02), (0.25, 0.01, 0.02), (0.02, 0.06, 0.3),
    (0.03, 0.12, 0.28), (0.04, 0.16, 0.08), (0.5, 0.28, 0.03), (0.28, 0.22, 0.15),
)  # fmt: skip
_WALLS = (
    (0.62, 0.55, 0.42), (0.7, 0.64, 0.52), (0.5, 0.22, 0.13), (0.38, 0.14, 0.09), (0.55, 0.5, 0.46),
    (0.35, 0.33, 0.32), (0.66, 0.45, 0.28), (0.45, 0.52, 0.5), (0.68, 0.66, 0.62), (0.5, 0.36, 0.25),
    (0.3, 0.2, 0.15), (0.42, 0.46, 0.55), (0.6, 0.4, 0.35), (0.74, 0.72, 0.68),
)  # fmt: skip
_CLOTHES = (
    (0.03, 0.03, 0.04), (0.06, 0.08, 0.18), (0.4, 0.05, 0.04), (0.5, 0.5, 0.48), (0.1, 0.25, 0.12),
    (0.5, 0.36, 0.1), (0.2, 0.2, 0.22), (0.08, 0.2, 0.4), (0.35, 0.2, 0.28), (0.3, 0.24, 0.16),
)  # fmt: skip
_SKIN = ((0.55, 0.33, 0.22), (0.4, 0.22, 0.13), (0.17, 0.08, 0.05), (0.62, 0.42, 0.3))


@dataclass
class Parts:
    """n convex parts: an affine image each of a unit shape.

    Attributes:
        centre: (n, 3) metres.
        axes: (n, 3, 3); column k is the image of the unit shape's axis k, metres.
        kind: (n, 3) whole numbers: shape, class, material.
        look: (n, 7): linear colour (3) and the material's parameters (4).
        reach: (n,) metres from the camera up to which the part is drawn.
    """

    centre: np.ndarray
    axes: np.ndarray
    kind: np.ndarray
    look: np.ndarray
    reach: np.ndarray

    @staticmethod
    def join(parts: list[Parts]) -> Parts:
        """All parts in one table, in order."""
        return Parts(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("centre", "axes", "kind", "look", "reach"))
        )

    def placed(self, x: float, y: float, z: float, yaw: float) -> Parts:
        """The same parts, turned to the right by `yaw` (radians) and moved to (x, y, z)."""
        c, s = math.cos(yaw), math.sin(yaw)
        turn = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        return Parts(self.centre @ turn.T + (x, y, z), turn @ self.axes, self.kind, self.look, self.reach)


@dataclass
class _Builder:
    """Collects parts in an object's own frame."""

    reach: float = 120.0
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def add(
        self, shape: int, label: str, material: int, colour: tuple[float, ...], at: tuple[float, float, float],
        half: tuple[float, float, float], params: tuple[float, ...] = (), axes: np.ndarray = _UPRIGHT,
    ) -> None:  # fmt: skip
        look = (*colour, *params, *(0.0,) * (4 - len(params)))
        self.rows.append((at, axes * np.asarray(half), (shape, _CLASS[label], material), look, self.reach))

    def parts(self) -> Parts:
        return Parts(
            *(np.array([row[k] for row in self.rows], dtype=np.int64 if k == 2 else np.float64) for k in range(5))
        )


def _turned(angle: float) -> np.ndarray:
    """Rotation about z, counter-clockwise as seen from +z."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


_ALONG_Z = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # a cylinder's axis lies along z
_ALONG_X = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # ... along x


def car(rng: random.Random, parked: bool) -> Parts:
    """A car heading along +z: body, cabin of two sheared boxes (together a trapezoid), wheels."""
    build = _Builder(reach=130.0)
    kind = rng.choice(("saloon", "saloon", "hatch", "hatch", "suv", "suv", "van"))
    length, height, cabin, top = {
        "saloon": (4.6, 1.45, (-1.75, 1.05), 0.62), "hatch": (4.0, 1.5, (-1.85, 0.95), 0.5),
        "suv": (4.7, 1.75, (-2.2, 1.05), 0.4), "van": (5.2, 2.15, (-2.5, 1.75), 0.3),
    }[kind]  # fmt: skip
    half_width = 0.9 if kind != "van" else 1.0
    paint = rng.choice(_CAR_COLOURS)
    low, waist = 0.28, 0.55 * height + 0.08
    snow = 1.0 if parked else 0.15
    build.add(
        BOX,
        "car",
        CAR_BODY,
        paint,
        (0, (low + waist) / 2, 0),
        (half_width, (waist - low) / 2, length / 2),
        (rng.random(), snow),
    )
    build.add(BOX, "car", PLAIN, (0.015, 0.015, 0.015), (0, 0.25, 0), (half_width - 0.12, 0.1, length / 2 - 0.15))
    back, front = cabin
    scale = length / 4.6
    back, front = back * scale, front * scale
    half = (front - back) / 2 - top  # the pair shares the roof, and each adds one slope: together a trapezoid
    rise = (height - waist) / 2
    for sign in (1.0, -1.0):
        shear = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, sign * top / 2 / rise, 1.0]])
        middle = (front + back) / 2 - sign * top / 2
        build.add(
            BOX,
            "car",
            CAR_GLASS,
            paint,
            (0, waist + rise, middle),
            (half_width - 0.1, rise, half),
            (rng.random(), snow, top, sign),
            shear,
        )
    for x in (-half_width + 0.1, half_width - 0.1):
        for z in (-length * 0.31, length * 0.31):
            build.add(CYLINDER, "car", WHEEL, (0.02, 0.02, 0.022), (x, 0.33, z), (0.33, 0.12, 0.33), (), _ALONG_X)
    return build.parts()


def person(rng: random.Random) -> Parts:
    """Somebody facing +z, 1.55 ... 1.9 m, in the middle of the longest step (`stride` shortens it)."""
    build = _Builder(reach=90.0)
    size = rng.uniform(0.88, 1.07)
    coat, trousers, skin = rng.choice(_CLOTHES), rng.choice(_CLOTHES), rng.choice(_SKIN)
    hair = rng.choice(((0.02, 0.015, 0.01), (0.1, 0.05, 0.02), (0.35, 0.25, 0.1), (0.3, 0.3, 0.3)))
    for side in (-1.0, 1.0):
        lean = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, side * 0.45, 1.0]])
        build.add(
            BOX, "person", PLAIN, trousers, (side * 0.1 * size, 0.42 * size, 0), (0.085, 0.43 * size, 0.1), (), lean
        )
        lean = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -side * 0.4, 1.0]])
        build.add(BOX, "person", PLAIN, coat, (side * 0.28 * size, 1.12 * size, 0), (0.06, 0.3 * size, 0.07), (), lean)
    build.add(CYLINDER, "person", PLAIN, coat, (0, 1.13 * size, 0), (0.23 * size, 0.33 * size, 0.16 * size))
    build.add(BALL, "person", PLAIN, skin, (0, 1.6 * size, 0.01), (0.11, 0.14, 0.12))
    build.add(BALL, "person", PLAIN, hair, (0, 1.64 * size, -0.02), (0.118, 0.12, 0.125))
    return build.parts()


def stride(standing: Parts, swing: float) -> Parts:
    """The person with legs and arms at `swing` in -1 ... 1 of the longest step: only limbs lean."""
    axes = standing.axes.copy()
    axes[:, 2, 1] *= swing
    return replace(standing, axes=axes)


def tree(rng: random.Random, size: float) -> Parts:
    """Trunk and a crown of ragged balls, about 7 m at size 1."""
    build = _Builder(reach=200.0)
    trunk = rng.uniform(2.3, 3.3) * size
    build.add(
        CYLINDER,
        "vegetation",
        PLAIN,
        (0.1, 0.07, 0.05),
        (0, trunk / 2, 0),
        (0.16 * size, trunk / 2 + 0.4, 0.16 * size),
        (0.0, 1.0),
    )
    hue, blossom = rng.random(), float(rng.random() < 0.3)
    wide, tall = rng.uniform(1.4, 2.1) * size, rng.uniform(1.7, 2.7) * size
    middle = trunk + tall * 0.9
    build.add(
        LEAFY,
        "vegetation",
        FOLIAGE,
        (0, 0, 0),
        (0, middle, 0),
        (wide * 0.8, tall * 0.9, wide * 0.8),
        (hue, blossom, middle, tall),
    )
    count = rng.randint(7, 9)
    for k in range(count):
        angle, r, lift = (
            2.4 * k + rng.uniform(-0.3, 0.3),
            rng.uniform(0.36, 0.6),
            rng.uniform(-0.7, 0.75),
        )  # 2.4: the golden angle
        out = wide * 0.8 * math.sqrt(1.0 - lift * lift * 0.8)
        at = (out * math.cos(angle), middle + lift * tall * 0.8, out * math.sin(angle))
        half = (r * wide, r * tall * 0.8, r * wide)
        build.add(
            LEAFY, "vegetation", FOLIAGE, (0, 0, 0), at, half, (hue + rng.uniform(-0.06, 0.06), blossom, middle, tall)
        )
    return build.parts()


def bush(rng: random.Random) -> Parts:
    """One or two low ragged balls."""
    build = _Builder(reach=80.0)
    hue = rng.random()
    for _ in range(rng.randint(1, 2)):
        r = rng.uniform(0.45, 0.9)
        build.add(
            LEAFY,
            "vegetation",
            FOLIAGE,
            (0, 0, 0),
            (rng.uniform(-0.5, 0.5), r * 0.6, rng.uniform(-0.6, 0.6)),
            (r, r, r * 1.2),
            (hue, 0.0, r, r),
        )
    return build.parts()


def building(rng: random.Random, width: float, house: bool, side: float) -> Parts:
    """A building whose front is at x = 0; it stretches away from the road, towards x > 0 where side is +1."""
    build = _Builder(reach=FAR)
    depth = rng.uniform(9, 13)
    height = rng.uniform(4.5, 7) if house else rng.uniform(8, 22)
    wall = tuple(c * rng.uniform(0.75, 1.1) for c in rng.choice(_WALLS))
    style = rng.choice((0, 1, 4)) if house else rng.choice((0, 0, 1, 1, 2, 3, 3))
    bay, storey = rng.uniform(2.3, 3.6), rng.uniform(2.9, 3.5)
    if not house:
        height = storey * round((height - 4.0) / storey) + 4.7
    params = (float(style), bay, storey, rng.random() * 1000)
    build.add(
        BOX, "building", FACADE, wall, (side * depth / 2, height / 2, 0), (depth / 2, height / 2, width / 2), params
    )
    if house:
        rise = rng.uniform(1.8, 3.2)
        across = rng.random() < 0.5  # the ridge runs across the street: its gable looks at the road
        tiles = rng.choice(((0.3, 0.1, 0.06), (0.12, 0.11, 0.11), (0.2, 0.12, 0.08), (0.16, 0.17, 0.2)))
        reach = (width if across else depth) / 2 + 0.35
        slope = np.array(
            [
                [0.5 * reach, -0.5 * reach, 0.0],
                [0.5 * rise, 0.5 * rise, 0.0],
                [0.0, 0.0, (depth if across else width) / 2 - 0.02],
            ]
        )
        axes = slope if not across else np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]) @ slope
        build.add(BOX, "building", ROOF, tiles, (side * depth / 2, height, 0), (1, 1, 1), wall, axes)
        if rng.random() < 0.6:
            build.add(
                BOX,
                "building",
                PLAIN,
                (0.3, 0.13, 0.1),
                (side * depth * 0.5, height + rise, width * 0.2),
                (0.35, 0.9, 0.35),
                (0.0, 1.0),
            )
    else:
        trim = tuple(min(1.0, c * rng.choice((0.6, 1.25))) for c in wall)
        build.add(
            BOX,
            "building",
            PLAIN,
            trim,
            (side * (depth / 2 - 0.2), height, 0),
            (depth / 2 + 0.1, 0.3, width / 2 - 0.01),
            (0.0, 1.0),
        )
        if style < 2 and rng.random() < 0.5:  # balconies, one bay wide, over one column of windows
            bays = max(1, round(width / bay))
            column = (rng.randrange(bays) + 0.5) / bays * width - width / 2
            for floor in range(1, int((height - 4.0) / storey)):
                at = (-side * 0.45, 4.0 + storey * floor + 0.35, column)
                build.add(BOX, "building", PLAIN, trim, at, (0.5, 0.5, min(1.3, bay * 0.48)), (0.0, 1.0))
        if rng.random() < 0.35:  # an awning over the ground floor
            at = (-side * 0.5, 3.15, rng.uniform(-0.2, 0.2) * width)
            slope = np.array([[1.0, 0.0, 0.0], [side * 0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
            build.add(BOX, "building", PLAIN, rng.choice(_CLOTHES), at, (0.6, 0.12, width * 0.25), (0.0, 1.0), slope)
    return build.parts()


def lamp(rng: random.Random, side: float, height: float) -> Parts:
    """A street lamp whose arm reaches over the road."""
    build = _Builder(reach=130.0)
    grey = rng.choice(((0.2, 0.21, 0.22), (0.08, 0.1, 0.09), (0.3, 0.3, 0.3)))
    build.add(CYLINDER, "pole", PLAIN, grey, (0, height / 2, 0), (0.095, height / 2, 0.095))
    build.add(CYLINDER, "pole", PLAIN, grey, (0, 0.4, 0), (0.16, 0.45, 0.16))
    build.add(BOX, "pole", PLAIN, grey, (-side * 0.8, height - 0.05, 0), (0.85, 0.06, 0.06))
    build.add(BOX, "pole", PLAIN, (0.5, 0.5, 0.48), (-side * 1.6, height - 0.08, 0), (0.38, 0.09, 0.16))
    return build.parts()


def sign(rng: random.Random) -> Parts:
    """A traffic sign on its pole, facing -z. Parameter 0 of the sign's material is its picture."""
    build = _Builder(reach=110.0)
    picture = rng.randrange(6)
    grey, back = (0.3, 0.31, 0.32), (0.3, 0.3, 0.3)
    if picture == 5:  # a board on two posts
        for x in (-0.9, 0.9):
            build.add(CYLINDER, "pole", PLAIN, grey, (x, 1.5, 0.06), (0.06, 1.5, 0.06))
        build.add(BOX, "traffic sign", SIGN, back, (0, 2.75, 0), (1.35, 0.65, 0.04), (5.0, rng.random()))
        return build.parts()
    build.add(CYLINDER, "pole", PLAIN, grey, (0, 1.45, 0.07), (0.055, 1.45, 0.055))
    heights = (2.55,) if rng.random() < 0.7 else (2.65, 1.8)
    for height in heights:
        if picture < 3:  # round: prohibition, order, stop
            build.add(
                CYLINDER,
                "traffic sign",
                SIGN,
                back,
                (0, height, 0),
                (0.42, 0.03, 0.42),
                (float(picture), rng.random()),
                _ALONG_Z,
            )
        elif picture == 3:  # a yellow diamond
            build.add(
                BOX,
                "traffic sign",
                SIGN,
                back,
                (0, height, 0),
                (0.36, 0.36, 0.03),
                (3.0, rng.random()),
                _turned(math.pi / 4),
            )
        else:  # a blue square
            build.add(BOX, "traffic sign", SIGN, back, (0, height, 0), (0.36, 0.4, 0.03), (4.0, rng.random()))
    return build.parts()


class World:
    """The street of a seed: its shape, the camera's path over it and every part that may be seen from there."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"street {seed}")
        self.seed = seed
        curvy = rng.random() < 0.6
        self.bends = [
            (
                rng.uniform(5, 11) if curvy else rng.uniform(0.4, 1.5),
                2 * math.pi / rng.uniform(190, 280),
                rng.uniform(0, 6.3),
            ),
            (rng.uniform(0.8, 1.6) if curvy else 0.3, 2 * math.pi / rng.uniform(80, 130), rng.uniform(0, 6.3)),
        ]  # amplitude (m), angular frequency (rad/m), phase
        self.theme = rng.choice(("town", "suburb", "suburb", "avenue"))
        self.parking = rng.random() < (0.35 if self.theme == "suburb" else 0.7)
        self.parked = rng.uniform(0.2, 0.6)
        self.road = LANE + (2.2 if self.parking else 0.35)  # half width, metres
        self.verge = rng.uniform(1.3, 2.6) if self.theme == "avenue" or rng.random() < 0.5 else 0.0
        self.walk = rng.uniform(2.6, 4.6)
        self.edge = self.road + 0.2 + self.verge + self.walk  # where the pavement ends
        self.crowd = rng.uniform(0.25, 0.6)
        self.lamp_height, self.lamp_gap = rng.uniform(6.0, 8.0), rng.choice((20.0, 40.0))
        self.start, self.speed = rng.uniform(0, 400), rng.uniform(6.5, 12.0)
        self.eye = rng.uniform(1.3, 1.65)
        sizes = (rng.uniform(0.1, 0.35), rng.uniform(0.008, 0.03), 0.004)  # sideways (m), yaw, pitch (radians)
        rates = (rng.uniform(0.4, 0.9), rng.uniform(0.5, 1.1), rng.uniform(3.0, 5.0))  # rad/s
        self.sway = [(size, rate, rng.uniform(0, 6.3)) for size, rate in zip(sizes, rates, strict=True)]
        self.ahead = [
            (gap, rng.uniform(1.0, 3.0), rng.uniform(0.15, 0.4), rng.uniform(0, 6.3))
            for gap in (rng.uniform(11, 17), rng.uniform(26, 34), rng.uniform(46, 60))
            if rng.random() < 0.7
        ]  # metres ahead, its swing (m), rate (rad/s), phase
        self.oncoming, self.oncoming_gap = rng.uniform(7, 12), rng.uniform(16, 30)
        self._chunk = lru_cache(maxsize=64)(self._make_chunk)
        self._mover = lru_cache(maxsize=512)(self._make_mover)

    def _rng(self, *key: object) -> random.Random:
        return random.Random(f"street {self.seed} {key}")

    def course(self, s: float) -> tuple[float, float]:
        """x of the centre line at s, metres, and its slope dx/dz."""
        x = sum(a * math.sin(w * s + p) for a, w, p in self.bends)
        return x, sum(a * w * math.cos(w * s + p) for a, w, p in self.bends)

    def pose(self, s: float, u: float) -> tuple[float, float, float]:
        """x, z and heading (radians to the right of z) at street coordinates (s, u)."""
        x, slope = self.course(s)
        yaw = math.atan(slope)
        return x + u * math.cos(yaw), s - u * math.sin(yaw), yaw

    def camera(self, t: float) -> tuple[np.ndarray, float, float]:
        """Position (3,), yaw and pitch (radians) of the camera at t seconds."""
        (a, wa, pa), (b, wb, pb), (c, wc, pc) = self.sway
        x, z, _ = self.pose(self.distance(t), LANE / 2 + a * math.sin(wa * t + pa))
        # The eyes look a little ahead into the bend.
        yaw = math.atan(self.course(self.distance(t) + 6.0)[1]) + b * math.sin(wb * t + pb)
        return np.array([x, self.eye, z]), yaw, -0.015 + c * math.sin(wc * t + pc)

    def distance(self, t: float) -> float:
        """s of the camera at t seconds."""
        return self.start + self.speed * t + 0.6 * math.sin(0.5 * t + self.sway[0][2])

    def parts(self, seen: tuple[float, ...], t: float) -> Parts:
        """What may be seen at one of the instants `seen`, as it stands at t seconds: rows depend on `seen` only."""
        at = [self.distance(instant) for instant in seen]
        low, high = min(at) - BEHIND, max(at) + FAR
        tables = [self._chunk(k) for k in range(math.floor(low / CHUNK), math.floor(high / CHUNK) + 1)]
        for number in range(len(self.ahead)):
            gap, swing, rate, phase = self.ahead[number]
            s = self.distance(t) + gap + swing * math.sin(rate * t + phase)
            tables.append(self._stand("ahead", number, s, LANE / 2, 0.0, False, 0.0))
        # Traffic and people stand on belts that move along the street; a slot is empty or always holds the same.
        belts = [("oncoming", -self.oncoming, self.oncoming_gap, 140.0, 0.7, -LANE / 2)]
        inner = self.edge - self.walk
        for name, side in (("right", 1.0), ("left", -1.0)):
            for way, share in ((1.0, 0.65), (-1.0, 0.4)):
                belts.append((f"{name} {way}", way * 1.35, 5.0, 95.0, self.crowd, side * (inner + self.walk * share)))
        for name, speed, gap, reach, chance, u in belts:
            first = min(a - speed * instant for a, instant in zip(at, seen, strict=True)) - BEHIND
            last = max(a - speed * instant for a, instant in zip(at, seen, strict=True)) + reach
            for slot in range(math.floor(first / gap), math.floor(last / gap) + 1):
                rng = self._rng(name, slot)
                if rng.random() < chance:
                    s = (slot + rng.uniform(0.0, 0.5 if name == "oncoming" else 1.0)) * gap + speed * t
                    walking = name != "oncoming"
                    across = rng.uniform(-0.35, 0.35) * (1.0 if walking else 0.4)
                    swing = math.sin(rng.uniform(0, 6.3) + 5.5 * t)
                    tables.append(self._stand(name, slot, s, u + across, math.pi if speed < 0 else 0.0, walking, swing))
        return Parts.join(tables)

    def _stand(self, belt: str, slot: int, s: float, u: float, turn: float, walking: bool, swing: float) -> Parts:
        x, z, yaw = self.pose(s, u)
        mover = self._mover(belt, slot, walking)
        return (stride(mover, swing) if walking else mover).placed(x, KERB if walking else 0.0, z, yaw + turn)

    def _make_mover(self, belt: str, slot: int, walking: bool) -> Parts:
        rng = self._rng(belt, slot, "looks")
        return person(rng) if walking else car(rng, parked=False)

    def zebra(self, chunk: int) -> float | None:
        """s of the middle of the zebra crossing in a chunk, if it has one."""
        rng = self._rng("zebra", chunk)
        return (chunk + rng.uniform(0.3, 0.7)) * CHUNK if rng.random() < 0.3 else None

    def _make_chunk(self, chunk: int) -> Parts:
        """All that stands still between s = chunk * CHUNK and the next."""
        rng, low = self._rng("chunk", chunk), chunk * CHUNK
        tables: list[Parts] = []
        zebra = self.zebra(chunk)

        def put(parts: Parts, s: float, u: float, turn: float = 0.0, y: float = KERB) -> None:
            x, z, yaw = self.pose(s, u)
            tables.append(parts.placed(x, y, z, yaw + turn))

        for side in (1.0, -1.0):
            block = self._rng("block", side, chunk // 2)
            kinds = {
                "town": ("town",) * 5 + ("park",),
                "suburb": ("suburb",) * 4 + ("park", "park", "town"),
                "avenue": ("town", "town", "suburb", "park"),
            }
            kind = block.choice(kinds[self.theme])
            setback = {"town": block.choice((0.0, 0.0, 2.5)), "suburb": block.uniform(3.0, 6.0), "park": 0.0}[kind]
            s = 0.0
            while kind != "park" and s < CHUNK - 6.0:
                width = min(rng.uniform(8, 13) if kind == "suburb" else rng.uniform(9, 19), CHUNK - s)
                if rng.random() < 0.92:
                    u = side * (self.edge + setback + rng.uniform(0.02, 0.7))
                    put(building(rng, width, kind == "suburb", side), low + s + width / 2, u)
                gap = rng.uniform(2.5, 6) if kind == "suburb" else rng.choice((0.0, 0.0, 0.0, 0.3, 3.5))
                if gap > 3.0 and rng.random() < 0.6:
                    put(
                        tree(rng, rng.uniform(0.6, 1.0)),
                        low + s + width + gap / 2,
                        side * (self.edge + setback + rng.uniform(3, 8)),
                    )
                s += width + gap
            if kind == "park":
                for _ in range(9):
                    put(
                        tree(rng, rng.uniform(0.7, 1.5)),
                        low + rng.uniform(0, CHUNK),
                        side * (self.edge + rng.uniform(2.0, 26.0)),
                    )
                for _ in range(4):
                    put(bush(rng), low + rng.uniform(0, CHUNK), side * (self.edge + rng.uniform(0.8, 6.0)))
            if kind == "suburb":
                for k in range(4):
                    if rng.random() < 0.45:
                        put(
                            bush(rng),
                            low + (k + rng.random()) * CHUNK / 4,
                            side * (self.edge + rng.uniform(0.8, setback - 0.8)),
                        )
                if rng.random() < 0.5:
                    hedge = _Builder(reach=110.0)
                    length, tall = rng.uniform(3, 8), rng.uniform(0.45, 0.7)
                    hedge.add(
                        BOX,
                        "vegetation",
                        FOLIAGE,
                        (0, 0, 0),
                        (0, tall, 0),
                        (0.35, tall, length),
                        (rng.random(), 0.0, tall, tall),
                    )
                    put(hedge.parts(), low + rng.uniform(10, 30), side * (self.edge + 0.6))
                if rng.random() < 0.5:
                    put(
                        tree(rng, rng.uniform(0.6, 0.9)),
                        low + rng.uniform(0, CHUNK),
                        side * (self.edge + setback * 0.5),
                    )
            # The row along the kerb: trees, lamps and signs, each in its own stretch so that none stands in another.
            kerb_row = self.road + (0.2 + self.verge / 2 if self.verge else 0.65)
            shade = {"avenue": 0.8, "town": 0.3, "suburb": 0.3}[self.theme]
            for k in range(4):
                if rng.random() < shade:
                    put(tree(rng, rng.uniform(0.75, 1.05)), low + k * 10.0 + rng.uniform(2.5, 5.0), side * kerb_row)
                if rng.random() < (0.4 if side > 0 else 0.25):
                    facing = 0.0 if side > 0 or rng.random() < 0.6 else math.pi
                    put(
                        sign(rng),
                        low + k * 10.0 + rng.uniform(6.5, 8.5),
                        side * (kerb_row + (0.2 if self.verge else 0.0)),
                        facing,
                    )
            for k in range(round(CHUNK / self.lamp_gap)):
                offset = 0.0 if side > 0 else self.lamp_gap / 2
                put(lamp(rng, side, self.lamp_height), low + k * self.lamp_gap + offset, side * (self.road + 0.45))
            if self.parking:
                for k in range(6):
                    at = low + (k + 0.5) * CHUNK / 6 + rng.uniform(-0.5, 0.5)
                    if rng.random() < self.parked and (zebra is None or abs(at - zebra) > 5.5):
                        put(
                            car(rng, parked=True),
                            at,
                            side * (self.road - 1.1 + rng.uniform(-0.1, 0.1)),
                            0.0 if side > 0 else math.pi,
                            0.0,
                        )
            for _ in range(2):
                if rng.random() < self.crowd * 0.7:
                    u = side * (self.edge - self.walk * rng.uniform(0.1, 0.25))
                    put(
                        stride(person(rng), rng.uniform(-0.3, 0.3)), low + rng.uniform(0, CHUNK), u, rng.uniform(0, 6.3)
                    )
        return Parts.join(tables)
