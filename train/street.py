"""A procedural drive through a street: picture, classes and motion at any instant, as ground truth.

Every part of the world is an affine image of a unit shape. Each is tested against the rays of its rectangle on screen,
all at once as a flat list of (part, ray) pairs; the nearest hit wins, and what was hit is shaded once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidtrans.errors import UsageError, nearest_names
from vidtrans.palettes import STREET
from vidtrans.train.street_looks import GROUND, HILLS, SEASONS, SKY, Hits, Looks
from vidtrans.train.street_world import BALL, BOX, CYLINDER, KERB, LEAFY, Parts, World

__all__ = ["SEASONS", "Street", "StreetFrame"]

_NEAR = 0.1  # metres: nothing nearer is drawn
_FARTHEST = 3000.0  # metres: where the ground ends
_BLOCK = 120_000  # pairs tested at once; small enough for the cache of a core
_SHADOWS_TO = 70.0  # metres


@dataclass(frozen=True)
class StreetFrame:
    """One instant.

    Attributes:
        rgb: (H, W, 3) uint8, sRGB.
        labels: (H, W) uint8, class numbers of palettes.STREET, of the surface at each pixel's centre.
    """

    rgb: Tensor
    labels: Tensor


@dataclass
class _Eye:
    """A camera: position (3,), rotation camera -> world (3, 3), focal length in pixels, picture size."""

    position: np.ndarray
    rotation: np.ndarray
    focal: float
    width: int
    height: int

    def rays(self, samples: int, device: torch.device) -> Tensor:
        """World directions (3, H*S, W*S), one unit long along the optical axis: a hit's factor is its depth."""
        x = (torch.arange(self.width * samples, device=device, dtype=torch.float32) + 0.5) / samples - self.width / 2
        y = (torch.arange(self.height * samples, device=device, dtype=torch.float32) + 0.5) / samples - self.height / 2
        right, up, ahead = (self.rotation[:, k].tolist() for k in range(3))
        x, y = (x / self.focal)[None, :], (-y / self.focal)[:, None]
        return torch.stack([(ahead[k] + y * up[k]) + x * right[k] for k in range(3)])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Offsets from the camera (..., 3) to camera coordinates (..., 3)."""
        return points @ self.rotation


@dataclass
class _View:
    """What a grid of n rays sees. Rows past the parts' stand for the ground, the distant hills and the sky."""

    rays: Tensor  # (3, n)
    depth: Tensor  # (n,) metres along the optical axis, inf in the sky
    row: Tensor  # (n,) int64
    u: Tensor  # (n,) street coordinate of the ground, metres
    height: Tensor  # (n,) of the ground above the road, metres


class _Scene:
    """Parts as one camera needs them: relative to it, with the way from the world into each part's own coordinates."""

    def __init__(self, parts: Parts, eye: _Eye, device: torch.device) -> None:
        self.parts, self.eye, self.device, self.count = parts, eye, device, len(parts.reach)
        self.offset = parts.centre - eye.position
        self.distance = np.linalg.norm(self.offset, axis=1)
        self.corners = self.offset[:, None] + _CORNERS @ parts.axes.transpose(0, 2, 1)
        self.inverse = np.linalg.inv(parts.axes)
        origin = -(self.inverse @ self.offset[..., None])[..., 0]
        half = np.linalg.norm(parts.axes, axis=1)
        self.table = self.tensor(
            np.concatenate([self.inverse.reshape(-1, 9), origin, half, parts.look], 1).T
        )  # (22, count)

    def tensor(self, values: np.ndarray) -> Tensor:
        """Float32 on the device."""
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=self.device)


class Street:
    """The drive of a seed. It holds no state but caches; the season changes materials and light, never geometry.

    Args:
        seed: any whole number.
        season: one of SEASONS.
        device: where pictures are made and returned.

    Raises:
        UsageError: unknown season.
    """

    def __init__(self, seed: int, season: str = "summer", device: torch.device | str = "cpu") -> None:
        if season not in SEASONS:
            raise UsageError(f"unknown season {season!r}; {nearest_names(season, SEASONS)}")
        self.seed, self.season, self.device = seed, season, torch.device(device)
        self._world = World(seed)
        self._looks = Looks(self._world, season, self.device)

    def render(self, t: float, width: int, height: int, *, samples: int = 2) -> StreetFrame:
        """Picture and classes at t seconds; the picture averages samples x samples rays a pixel.

        Raises:
            UsageError: size below 16 x 16, or fewer than one sample.
        """
        eye = self._eye(t, width, height)
        if samples < 1:
            raise UsageError(f"{samples} samples a pixel cannot be rendered; at least 1 is needed")
        scene = _Scene(self._world.parts((t,), t), eye, self.device)
        view = self._cast(scene, samples)
        material = self._numbers(scene, 2, (GROUND, HILLS, SKY))[view.row]
        shapes, pixel = self._numbers(scene, 0, (BALL, BALL, BALL)), 1.0 / (eye.focal * samples)
        place = eye.position.tolist()
        hits = Hits(scene.table, shapes, material, view.row, view.depth, view.rays, place, pixel, view.u, view.height)
        hits.shadow = self._shadow(scene, hits, samples)
        light = self._looks.light(hits, t).view(height, samples, width, samples, 3).mean((1, 3))
        rgb = (self._looks.develop(light) * 255.0 + 0.5).to(torch.uint8)
        if samples % 2 == 0:  # no ray passes through the pixels' centres
            labels = self._labels(scene, self._cast(scene, 1)).view(height, width)
        else:
            labels = self._labels(scene, view).view(height * samples, width * samples)
            labels = labels[samples // 2 :: samples, samples // 2 :: samples]
        return StreetFrame(rgb, labels.contiguous())

    def motion(self, t: float, to: float, width: int, height: int) -> tuple[Tensor, Tensor]:
        """Where what is seen at t seconds will be at `to` seconds.

        Returns:
            (H, W, 2) float32 flow in pixels (right, down) of the surface point at each pixel's centre, and (H, W) bool:
            true where that point is inside the frame and not hidden at `to`.

        Raises:
            UsageError: size below 16 x 16.
        """
        eye, then = self._eye(t, width, height), self._eye(to, width, height)
        before, after = self._world.parts((t, to), t), self._world.parts((t, to), to)
        scene = _Scene(before, eye, self.device)
        view, n = self._cast(scene, 1), scene.count
        # A part is rigid up to an affine map: the point keeps its place in the part's own coordinates.
        carry = np.zeros((n + 3, 3, 4))
        carry[:n, :, :3] = after.axes @ scene.inverse
        carry[:n, :, 3] = after.centre - then.position - (carry[:n, :, :3] @ scene.offset[..., None])[..., 0]
        carry[n, :, :3] = np.eye(3)
        carry[n, :, 3] = eye.position - then.position
        carry[n + 1 :, :, :3] = np.eye(3)  # hills and sky are infinitely far away: directions stay
        table = scene.tensor(then.rotation.T @ carry)
        depth = torch.where(view.row > n, 1.0, view.depth)
        point = (table[view.row][:, :, :3] * (view.rays * depth).T[:, None]).sum(-1) + table[view.row][:, :, 3]
        ahead = point[:, 2].clamp_min(0.01)
        x, y = point[:, 0] / ahead * then.focal + width / 2, height / 2 - point[:, 1] / ahead * then.focal
        flow = torch.stack([x, y], -1).view(height, width, 2) - self._centres(width, height)
        if t == to:
            return torch.zeros_like(flow), torch.ones((height, width), dtype=torch.bool, device=self.device)
        # Visible: at `to`, a ray there or a neighbour of it (of a grid twice as fine) meets the same part, no nearer.
        later = self._cast(_Scene(after, then, self.device), 2)
        inside = (point[:, 2] > _NEAR) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        column, line = (x * 2).floor().clamp(0, 2 * width - 1).long(), (y * 2).floor().clamp(0, 2 * height - 1).long()
        seen = torch.zeros_like(inside)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                at = (line + dy).clamp(0, 2 * height - 1) * (2 * width) + (column + dx).clamp(0, 2 * width - 1)
                near_enough = (point[:, 2] < later.depth[at] * 1.05 + 0.2) | (view.row > n)
                seen |= (later.row[at] == view.row) & near_enough
        return flow, (inside & seen).view(height, width)

    def _centres(self, width: int, height: int) -> Tensor:
        y, x = torch.meshgrid(
            torch.arange(height, device=self.device) + 0.5, torch.arange(width, device=self.device) + 0.5, indexing="ij"
        )
        return torch.stack([x, y], -1)

    def _eye(self, t: float, width: int, height: int) -> _Eye:
        if width < 16 or height < 16:
            raise UsageError(f"a street of {width}x{height} pixels is too small; at least 16x16 is needed")
        position, yaw, pitch = self._world.camera(t)
        cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
        rotation = np.array([[cy, -sy * sp, sy * cp], [0.0, cp, sp], [-sy, -cy * sp, cy * cp]])
        # 56 degrees across, unless the frame is so tall that it would then see more than 70 degrees upright.
        focal = max(width / 2 / math.tan(math.radians(28)), height / 2 / math.tan(math.radians(35)))
        return _Eye(position, rotation, focal, width, height)

    def _cast(self, scene: _Scene, samples: int) -> _View:
        """The nearest surface along each ray of the frame's grid of samples x samples rays a pixel."""
        eye, n, rays = scene.eye, scene.count, scene.eye.rays(samples, self.device)
        _, height, width = rays.shape
        below = int((rays[1, :, 0] >= 0).sum()) * width  # the camera never rolls: the horizon is a line of the grid
        rays = rays.reshape(3, -1)
        ground = torch.zeros((3, height * width), device=self.device)
        ground[0] = math.inf
        ground[:, below:] = self._ground(eye, rays[:, below:])
        depth, u, above = ground
        row = torch.where(
            torch.isinf(depth), n + 1, n
        )  # where even the ground ends, below the horizon, stand the hills
        row[:below] += (~self._looks.hills(rays[:, :below])).long()
        best = (depth.view(torch.int32).long() << 32) | row  # a positive float's bits are in the float's order
        boxes = _rectangles(eye.project(scene.corners), eye.focal * samples, width, height)
        boxes[scene.distance > scene.parts.reach] = 0
        table = scene.table
        for shape, part, ray in self._pairs(scene.parts.kind[:, 0], boxes, width):
            m = [table[k].index_select(0, part) for k in range(12)]
            d = [rays[k].index_select(0, ray) for k in range(3)]
            local = [m[3 * k] * d[0] + m[3 * k + 1] * d[1] + m[3 * k + 2] * d[2] for k in range(3)]
            near, far = _cross(shape, m[9:], local)
            hit = (near < far) & (near > _NEAR)
            if shape == LEAFY:
                hit &= self._leafy(m[9:], local, near, table, part)
            index = hit.nonzero()[:, 0]
            key = (near.index_select(0, index).view(torch.int32).long() << 32) | part.index_select(0, index)
            best.scatter_reduce_(0, ray.index_select(0, index), key, "amin")
        return _View(rays, (best >> 32).to(torch.int32).view(torch.float32), best & 0xFFFFFFFF, u, above)

    def _pairs(self, shapes: np.ndarray, boxes: np.ndarray, width: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Every ray of every part's rectangle [x0, x1) x [y0, y1): blocks of (shape, part (p,), ray (p,))."""
        x0, x1, y0, y1 = boxes.T
        size = np.maximum(x1 - x0, 0) * np.maximum(y1 - y0, 0)
        for shape in (BOX, BALL, LEAFY, CYLINDER):
            chosen = np.flatnonzero((size > 0) & (shapes == shape))
            if not len(chosen):
                continue
            lines = (y1 - y0)[chosen]
            part = np.repeat(chosen, lines)
            line = np.arange(lines.sum()) - np.repeat(np.cumsum(lines) - lines, lines) + y0[part]
            run = (x1 - x0)[part]
            first = line * width + x0[part]
            ends = np.cumsum(run)
            cuts = np.searchsorted(ends, np.arange(_BLOCK, ends[-1], _BLOCK))
            for these in np.split(np.arange(len(run)), cuts):
                if not len(these):
                    continue
                lengths = run[these]
                start = first[these] - (np.cumsum(lengths) - lengths)
                total = int(lengths.sum())
                packed = torch.as_tensor(np.stack([part[these], start, lengths]), device=self.device)
                spread = torch.repeat_interleave(packed[:2], packed[2], dim=1, output_size=total)
                yield shape, spread[0], spread[1] + torch.arange(total, device=self.device)

    def _leafy(self, origin: list[Tensor], ray: list[Tensor], near: Tensor, table: Tensor, part: Tensor) -> Tensor:
        """Which hits on ragged balls stay: towards the rim, more and more are air."""
        q = [o + near * d for o, d in zip(origin, ray, strict=True)]
        square = ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2
        along = (
            q[0] * ray[0] + q[1] * ray[1] + q[2] * ray[2]
        ) ** 2 / square  # 1 in the middle of the disc, 0 at its rim
        w, v = (table[12 + k].index_select(0, part) * 5.0 for k in range(2))
        noise = self._looks.noise((q[0] + 0.6 * q[2]) * w, q[1] * v + (0.6 * q[0] - q[2]) * w)
        return along > 0.2 + 0.25 * noise

    def _ground(self, eye: _Eye, rays: Tensor) -> Tensor:
        """The ground along rays (3, n): depth (inf: none), street coordinate, height above the road: (3, n) metres."""
        x, y, z = eye.position.tolist()
        down = (-rays[1]).clamp_min(1e-9)
        top, low = (y - KERB) / down, y / down
        road = self._world.road
        u_top = self._looks.street(x + top * rays[0], z + top * rays[2])
        u_low = self._looks.street(x + low * rays[0], z + low * rays[2])
        inside = u_top.abs() < road
        # Between the two planes the ray meets the kerb's face, where |u| is the road's half width.
        part = ((road - u_top.abs()) / (u_low.abs() - u_top.abs()).clamp_min(1e-6)).clamp(0, 1)
        face = inside & (u_low.abs() > road)
        depth = torch.where(inside, torch.where(face, top + (low - top) * part, low), top)
        u = torch.where(inside, torch.where(face, u_top.sign() * (road + 1e-3), u_low), u_top)
        height = torch.where(inside, torch.where(face, KERB * (1 - part), 0.0), KERB)
        return torch.stack([torch.where(depth < _FARTHEST, depth, math.inf), u, height])

    def _numbers(self, scene: _Scene, column: int, rest: tuple[int, int, int]) -> Tensor:
        """A column of the parts' kinds, and what stands for ground, hills and sky: (count + 3,) int64."""
        return torch.as_tensor(np.concatenate([scene.parts.kind[:, column], rest]), device=self.device)

    def _labels(self, scene: _Scene, view: _View) -> Tensor:
        table = self._numbers(scene, 1, (0, STREET.index("vegetation"), STREET.index("sky"))).to(torch.uint8)
        return torch.where(view.row == scene.count, self._looks.ground_class(view.u), table[view.row])

    def _shadow(self, scene: _Scene, hits: Hits, samples: int) -> Tensor:
        """(n,) 1 where the ground lies in the shadow of a part, else 0."""
        sun, eye, n = self._looks.sun, scene.eye, scene.count
        fall = scene.corners - np.maximum(scene.corners[..., 1:2] + eye.position[1], 0.0) / sun[1] * sun
        width, height = eye.width * samples, eye.height * samples
        hull = np.concatenate([fall, fall + np.array([0.0, KERB, 0.0])], 1)
        boxes = _rectangles(eye.project(hull), eye.focal * samples, width, height)
        boxes[scene.distance > _SHADOWS_TO] = 0
        table = torch.cat([scene.table[:15], scene.tensor((scene.inverse @ sun).T)])
        shadow = torch.zeros_like(hits.depth)
        ground = hits.row == n
        for shape, part, index in self._pairs(scene.parts.kind[:, 0], boxes, width):
            keep = ground.index_select(0, index).nonzero()[:, 0]
            part, index = part.index_select(0, keep), index.index_select(0, keep)
            m = [table[k].index_select(0, part) for k in (*range(12), 15, 16, 17)]
            depth = hits.depth.index_select(0, index)
            p = [hits.rays[k].index_select(0, index) * depth for k in range(3)]
            start = [m[9 + k] + m[3 * k] * p[0] + m[3 * k + 1] * p[1] + m[3 * k + 2] * p[2] for k in range(3)]
            near, far = _cross(shape, start, m[12:])
            hit = (near < far) & (far > 0.0)
            if shape == LEAFY:
                hit &= self._leafy(start, m[12:], near, table, part)
            shadow[index[hit.nonzero()[:, 0]]] = 1.0
        return shadow


_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


def _rectangles(corners: np.ndarray, focal: float, width: int, height: int) -> np.ndarray:
    """Pixel rectangles (n, 4) x0, x1, y0, y1 around convex hulls of corners (n, k, 3) in camera coordinates."""
    x, y, z = corners[..., 0], -corners[..., 1], corners[..., 2]
    depth = np.maximum(z, _NEAR)
    crosses = (z < _NEAR).any(1, keepdims=True)
    # Where a hull reaches behind the camera, every corner is also taken at the near plane: too large at worst.
    nearer = np.where(crosses, _NEAR, depth)
    u = np.concatenate([x / depth, x / nearer], 1) * focal + width / 2
    v = np.concatenate([y / depth, y / nearer], 1) * focal + height / 2
    bounds = np.stack([u.min(1) - 0.5, u.max(1) + 0.5, v.min(1) - 0.5, v.max(1) + 0.5], 1)
    limits = np.array([width, width, height, height])
    bounds = np.clip(bounds, 0, limits)
    out = np.stack(
        [np.floor(bounds[:, 0]), np.ceil(bounds[:, 1]), np.floor(bounds[:, 2]), np.ceil(bounds[:, 3])], 1
    ).astype(np.int64)
    out[(z < _NEAR).all(1) | (out[:, 1] <= out[:, 0]) | (out[:, 3] <= out[:, 2])] = 0
    return out


def _cross(shape: int, origin: list[Tensor], ray: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave a unit shape, in units of `ray`; enter > leave: not at all. All arguments (p,)."""
    if shape == BOX:
        return _slabs(origin, ray)
    axes = (0, 2) if shape == CYLINDER else (0, 1, 2)
    square = sum((ray[k] * ray[k] for k in axes), start=torch.zeros_like(ray[0])).clamp_min(1e-12)
    middle = -sum((ray[k] * origin[k] for k in axes), start=torch.zeros_like(ray[0])) / square
    # The nearest approach first, then half the chord: b^2 - a c would cancel for thin far poles.
    miss = sum(((origin[k] + middle * ray[k]) ** 2 for k in axes), start=torch.zeros_like(middle))
    chord = ((1.0 - miss) / square).clamp_min(0.0).sqrt()
    near, far = middle - chord, torch.where(miss < 1.0, middle + chord, -math.inf)
    if shape == CYLINDER:
        low, high = _slabs(origin[1:2], ray[1:2])
        near, far = torch.maximum(near, low), torch.minimum(far, high)
    return near, far


def _slabs(origin: list[Tensor], ray: list[Tensor]) -> tuple[Tensor, Tensor]:
    near: Tensor | None = None
    far: Tensor | None = None
    for o, d in zip(origin, ray, strict=True):
        inverse = 1.0 / torch.where(d.abs() < 1e-9, 1e-9, d)
        middle, reach = -o * inverse, inverse.abs()
        near = middle - reach if near is None else torch.maximum(near, middle - reach)
        far = middle + reach if far is None else torch.minimum(far, middle + reach)
    assert near is not None
    assert far is not None
    return near, far
