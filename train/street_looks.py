"""Materials, light and seasons of the rendered street. Colours are linear light; nothing here moves anything."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vidtrans.palettes import STREET
from vidtrans.train.street_world import (
    BOX,
    CAR_BODY,
    CAR_GLASS,
    CHUNK,
    CYLINDER,
    FACADE,
    FOLIAGE,
    KERB,
    LANE,
    PLAIN,
    ROOF,
    SIGN,
    WHEEL,
    World,
)  # fmt: skip

SEASONS = ("spring", "summer", "fall", "winter")
GROUND, HILLS, SKY = 100, 101, 102  # materials of what is no part
_TILE = 512  # texels a side of the noise tile

_ROAD, _WALK, _TERRAIN = (STREET.index(name) for name in ("road", "sidewalk", "terrain"))

# Foliage: (dark, light) of two ends between which a tree's own hue picks; grass; hills.
_LEAVES: dict[
    str, tuple[tuple[tuple[float, float, float], ...], tuple[float, float, float], tuple[float, float, float]]
] = {
    "spring": (((0.08, 0.17, 0.025), (0.17, 0.3, 0.05)), (0.16, 0.27, 0.05), (0.1, 0.18, 0.06)),
    "summer": (((0.03, 0.075, 0.015), (0.07, 0.13, 0.025)), (0.17, 0.2, 0.055), (0.05, 0.1, 0.04)),
    "fall": (((0.32, 0.08, 0.015), (0.42, 0.26, 0.03)), (0.22, 0.18, 0.065), (0.22, 0.13, 0.04)),
    "winter": (((0.11, 0.095, 0.085), (0.2, 0.18, 0.165)), (0.72, 0.74, 0.78), (0.3, 0.32, 0.35)),
}
# Facade styles: window width, sill and lintel as shares of the bay and storey, mullion width, frame brightness.
_STYLES = (
    (0.44, 0.26, 0.82, 0.05, 0.7),
    (0.4, 0.24, 0.84, 0.04, 0.75),
    (0.93, 0.06, 0.95, 0.0, 0.1),
    (0.86, 0.34, 0.84, 0.03, 0.15),
    (0.5, 0.3, 0.8, 0.06, 0.75),
)


@dataclass
class Hits:
    """What n rays hit; (n,) each unless a shape is given, metres."""

    table: Tensor  # (22, parts): world -> own coordinates (9), the camera in them (3), half sizes (3), look (7)
    shape: Tensor  # (parts + 3,)
    material: Tensor
    row: Tensor
    depth: Tensor
    rays: Tensor  # (3, n)
    eye: list[float]  # (3,) the camera
    pixel: float  # distance of neighbouring rays at unit depth
    u: Tensor  # street coordinate of the ground
    height: Tensor  # of the ground above the road
    shadow: Tensor = field(default_factory=lambda: torch.zeros(0))  # 1 where the ground is shaded


class Looks:
    """Light and materials of one street in one season."""

    def __init__(self, world: World, season: str, device: torch.device) -> None:
        rng = random.Random(f"looks {world.seed}")
        self.world, self.season, self.device = world, season, device
        self.winter = season == "winter"
        weather = rng.choice(("sunny", "sunny", "fair", "overcast", "low"))
        azimuth = rng.uniform(0, 2 * math.pi)
        rise = {
            "sunny": rng.uniform(38, 60),
            "fair": rng.uniform(35, 55),
            "overcast": 80.0,
            "low": rng.uniform(16, 24),
        }[weather]
        if self.winter and weather != "overcast":
            rise = min(rise, 32.0)
        e = math.radians(rise)
        self.sun = np.array([math.cos(e) * math.sin(azimuth), math.sin(e), math.cos(e) * math.cos(azimuth)])
        warm = {
            "sunny": (1.0, 0.95, 0.86),
            "fair": (1.0, 0.96, 0.9),
            "overcast": (1.0, 1.0, 1.0),
            "low": (1.0, 0.76, 0.5),
        }[weather]
        strength = {"sunny": 2.3, "fair": 1.7, "overcast": 0.35, "low": 2.2}[weather]
        sky = {
            "sunny": (0.62, 0.75, 1.0),
            "fair": (0.7, 0.8, 0.98),
            "overcast": (0.95, 0.98, 1.03),
            "low": (0.6, 0.66, 0.85),
        }[weather]
        if self.winter:
            strength, sky = strength * 0.75, (sky[0] * 1.02, sky[1] * 1.02, sky[2] * 1.02)
        self.sunlight = self._colour([strength * c for c in warm])
        self.skylight = self._colour([0.85 * c for c in sky])
        self.zenith = self._colour(
            {
                "sunny": (0.1, 0.27, 0.72),
                "fair": (0.2, 0.38, 0.75),
                "overcast": (0.6, 0.65, 0.7),
                "low": (0.16, 0.28, 0.58),
            }[weather]
        )
        self.horizon = self._colour(
            {
                "sunny": (0.6, 0.76, 0.95),
                "fair": (0.72, 0.8, 0.9),
                "overcast": (0.82, 0.84, 0.86),
                "low": (1.0, 0.78, 0.55),
            }[weather]
        )
        if self.winter:
            self.zenith, self.horizon = self.zenith * 0.6 + 0.26, self.horizon * 0.7 + 0.24
        self.cover = {
            "sunny": rng.uniform(0.1, 0.9),
            "fair": rng.uniform(-0.3, 0.3),
            "overcast": -1.2,
            "low": rng.uniform(-0.2, 0.8),
        }[weather]
        self.haze = 1.0 / (rng.uniform(150, 350) if weather == "overcast" else rng.uniform(300, 800))
        self.exposure = (
            rng.uniform(0.85, 1.2) * (0.85 if self.winter else 1.0) * (1.25 if weather == "overcast" else 1.0)
        )
        cast = {
            "spring": (1.0, 1.01, 0.99),
            "summer": (1.05, 1.02, 0.97),
            "fall": (1.06, 0.98, 0.9),
            "winter": (0.98, 1.0, 1.05),
        }[season]
        self.tint = self._colour([rng.uniform(0.95, 1.05) * c for c in cast])
        self.asphalt = rng.uniform(0.055, 0.13)
        self.slab, self.slab_colour = (
            rng.uniform(0.45, 0.9),
            self._colour(rng.choice(((0.4, 0.37, 0.33), (0.36, 0.35, 0.34), (0.42, 0.33, 0.27)))),
        )
        self.wind = (rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03))
        self.shift = rng.uniform(0, 400), rng.uniform(0, 400)
        self.zebras: dict[int, float | None] = {}
        (dark, light), grass, hill = _LEAVES[season]
        self.dark, self.bright, self.grass, self.hill = (self._colour(c) for c in (dark, light, grass, hill))
        self.tile = _noise_tile().to(device)
        self.styles = torch.tensor(_STYLES, device=device)

    def _colour(self, values: object) -> Tensor:
        return torch.tensor(list(values), dtype=torch.float32, device=self.device)  # type: ignore[call-overload]

    def street(self, x: Tensor, z: Tensor) -> Tensor:
        """Street coordinate u of points on the ground, metres to the right of the centre line."""
        centre, slope = torch.zeros_like(z), torch.zeros_like(z)
        for amplitude, rate, phase in self.world.bends:
            angle = z * rate + phase
            centre += amplitude * torch.sin(angle)
            slope += amplitude * rate * torch.cos(angle)
        return (x - centre) * torch.rsqrt(1.0 + slope * slope)

    def ground_class(self, u: Tensor) -> Tensor:
        """Class of the ground at street coordinate u, uint8."""
        world, side = self.world, u.abs()
        out = torch.full_like(u, _TERRAIN, dtype=torch.uint8)
        out[side < world.edge] = _WALK
        if world.verge:
            out[(side > world.road + 0.2) & (side < world.road + 0.2 + world.verge)] = _TERRAIN
        out[side < world.road] = _ROAD
        return out

    def hills(self, rays: Tensor) -> Tensor:
        """Which directions (3, n) meet the wooded hills on the horizon."""
        flat = torch.rsqrt(rays[0] ** 2 + rays[2] ** 2)
        a, b = rays[0] * flat, rays[2] * flat
        height = (
            0.035
            + 0.014 * torch.sin(3.1 * a + self.shift[0]) * torch.sin(4.3 * b + 1.0)
            + 0.006 * torch.sin(17.0 * a + 9.0 * b)
        )
        return rays[1] * flat < height

    def noise(self, x: Tensor, y: Tensor) -> Tensor:
        """Band-limited noise of mean 0 and deviation 1, constant on unit cells, with a period of 512 cells."""
        at = (y.floor().to(torch.int32) & (_TILE - 1)) * _TILE + (x.floor().to(torch.int32) & (_TILE - 1))
        return self.tile.index_select(0, at.view(-1)).view(x.shape)

    def smooth(self, x: Tensor, y: Tensor) -> Tensor:
        """The same noise, linear between cells' corners."""
        ix, iy = x.floor(), y.floor()
        fx, fy = x - ix, y - iy
        low = self.noise(ix, iy) * (1 - fx) + self.noise(ix + 1, iy) * fx
        high = self.noise(ix, iy + 1) * (1 - fx) + self.noise(ix + 1, iy + 1) * fx
        return low * (1 - fy) + high * fy

    def light(self, hits: Hits, t: float) -> Tensor:
        """Linear light (n, 3) that comes along each ray."""
        out = torch.zeros((hits.row.shape[0], 3), device=self.device)
        for material in (SKY, HILLS, GROUND):
            index = (hits.material == material).nonzero()[:, 0]
            if len(index):
                shade = {SKY: self._sky, HILLS: self._far_hills, GROUND: self._ground}[material]
                out[index] = shade(hits, index, t)
        index = (hits.material < GROUND).nonzero()[:, 0]
        if len(index):
            out[index] = self._parts(hits, index)
        return out

    def develop(self, light: Tensor) -> Tensor:
        """Linear light to sRGB-like values 0 ... 1: exposure, a soft shoulder, gamma."""
        return (1.0 - torch.exp(-1.35 * self.exposure * self.tint * light)).clamp(0, 1) ** (1 / 2.2)

    def _hazed(self, colour: Tensor, depth: Tensor) -> Tensor:
        keep = torch.exp(-depth * self.haze)[:, None]
        return colour * keep + self.horizon * 0.9 * (1 - keep)

    def _sky_colour(self, ray: Tensor) -> Tensor:
        """Clear sky in unit directions (3, n)."""
        up = ray[1].clamp_min(0.0)
        mix = (1.0 - torch.exp(-4.0 * up))[:, None]
        glow = (ray[0] * self.sun[0] + ray[1] * self.sun[1] + ray[2] * self.sun[2]).clamp_min(0.0)[:, None]
        return self.horizon * (1 - mix) + self.zenith * mix + self.sunlight * (0.12 * glow**8 + 0.6 * glow**200)

    def _sky(self, hits: Hits, index: Tensor, t: float) -> Tensor:
        ray = _unit(hits.rays[:, index])
        scale = 1.0 / (ray[1] + 0.12)
        x = ray[0] * scale * 16.0 + (self.shift[0] + self.wind[0] * t * 16.0)
        y = ray[2] * scale * 16.0 + (self.shift[1] + self.wind[1] * t * 16.0)
        density = self.smooth(x, y) + 0.35 * self.smooth(x * 3.1, y * 3.1)
        cloud = ((density - self.cover) * 1.1).clamp(0, 1)[:, None]
        thick = ((density - self.cover - 0.7) * 0.5).clamp(0, 1)[:, None]
        white = self.sunlight * 0.28 + self.skylight * 0.6 - thick * 0.3
        fade = (ray[1] * 7.0).clamp(0, 1)[:, None]
        clear = self._sky_colour(ray)
        return clear + (white - clear) * cloud * (0.25 + 0.65 * fade)

    def _far_hills(self, hits: Hits, index: Tensor, t: float) -> Tensor:
        ray = _unit(hits.rays[:, index])
        tone = 1.0 + 0.18 * self.noise(torch.atan2(ray[0], ray[2]) * 300.0, ray[1] * 300.0)
        lit = self.hill * (self.skylight * 0.6 + self.sunlight * 0.35)
        return lit * tone[:, None] * 0.4 + self.horizon * 0.5

    def _ground(self, hits: Hits, index: Tensor, t: float) -> Tensor:
        world = self.world
        u, depth, height = hits.u[index], hits.depth[index], hits.height[index]
        x, z = hits.rays[0][index] * depth + hits.eye[0], hits.rays[2][index] * depth + hits.eye[2]
        side = u.abs()
        foot = depth * depth * hits.pixel / hits.eye[1]  # metres of ground along a ray's footprint
        fine, coarse = self.noise(x * 24.0, z * 24.0), self.smooth(x * 1.7, z * 1.7)
        fine = fine * (1.0 / (1.0 + foot * 4.0))
        label = self.ground_class(u)
        # Road: asphalt, tyre tracks, patches, marks.
        track = torch.cos((side - LANE / 2) * (2 * math.pi / 1.7))
        patch = (self.noise(u * 0.37 + 7.0, z * 0.11) > 1.1).float()
        streak = self.smooth(u * 2.3 + 60.0, z * 0.25)
        grey = self.asphalt * (1.0 + 0.14 * fine + 0.04 * coarse + 0.06 * streak + 0.07 * track - 0.25 * patch)
        crack = self.noise(z * 0.9, torch.zeros_like(z)) > 1.9
        grey = torch.where(crack & (side < world.road), grey * 0.75, grey)
        road = grey[:, None] * self._colour((1.0, 1.0, 1.03))
        worn = (0.62 + 0.1 * coarse + 0.08 * fine).clamp(0.3, 0.9)
        dash = ((z / 9.0) % 1.0 < 0.45).float()
        dash = torch.where(foot > 4.0, 0.45, dash)
        mark = ((0.085 - u.abs()) / (0.3 * hits.pixel * depth).clamp_min(0.01) + 0.5).clamp(0, 1) * dash
        edge = ((0.07 - (side - LANE - 0.02).abs()) / (0.3 * hits.pixel * depth).clamp_min(0.01) + 0.5).clamp(0, 1)
        edge = edge * (((z / 3.0) % 1.0 < 0.5).float() if world.parking else 1.0)
        mark = torch.maximum(mark, edge)
        first, last = math.floor((hits.eye[2] - 5.0) / CHUNK), math.floor((hits.eye[2] + 120.0) / CHUNK)
        for chunk in range(first, last + 1):
            at = world.zebra(chunk)
            if at is not None:
                across = ((u / 1.0) % 1.0 < 0.5).float()
                mark = torch.maximum(mark, across * ((z - at).abs() < 1.9).float() * (side < world.road - 0.3))
        mark = mark * (side < world.road)
        road = road + (worn[:, None] - road) * mark[:, None] * 0.9
        # Pavement: slabs with joints; the kerb is one row of paler stones.
        across, along = (side - world.road - 0.2) / self.slab, z / self.slab
        joint = ((across % 1.0 < 0.05) | ((along + 0.5 * (across.floor() % 2.0)) % 1.0 < 0.05)).float() / (
            1.0 + foot * 8.0
        )
        tone = self.noise(across.floor() * 3.0 + 11.0, along.floor() * 3.0)
        walk = self.slab_colour * (1.0 + 0.1 * tone / (1.0 + foot) + 0.06 * fine + 0.08 * coarse - 0.4 * joint)[:, None]
        stone = 0.42 * (1.0 - 0.5 * ((z % 1.0) < 0.04).float() / (1.0 + foot * 8.0)) * (1.0 + 0.06 * fine)
        face = height < KERB - 1e-4
        walk = torch.where((side < world.road + 0.2)[:, None], (stone * torch.where(face, 0.6, 1.0))[:, None], walk)
        # Ground: grass with paler and barer patches.
        blade = 1.0 + 0.2 * fine + 0.14 * coarse + 0.12 * self.smooth(x * 0.35, z * 0.35)
        grass = self.grass * blade.clamp_min(0.3)[:, None]
        if self.season == "fall":  # fallen leaves
            leaf = (self.noise(x * 9.0 + 77.0, z * 9.0) > 1.3)[:, None] & (side > world.road - 1.0)[:, None]
            grass = torch.where(leaf, self._colour((0.42, 0.2, 0.04)), grass)
            walk = torch.where(leaf & (coarse > 0.0)[:, None], self._colour((0.38, 0.18, 0.04)), walk)
        if self.winter:
            snow = self._colour((0.78, 0.81, 0.86)) * (1.0 + 0.04 * coarse + 0.03 * fine)[:, None]
            grass = torch.where((coarse + 0.4 * fine > 2.1)[:, None], grass * 0.35, snow * 0.97)
            trodden = (0.75 + 0.25 * coarse + 0.1 * fine).clamp(0, 1)[:, None] * 0.75
            walk = walk * (1 - trodden) + snow * trodden * 0.92
            drift = (
                0.2 + 0.1 * coarse + 0.12 * streak + 0.1 * fine - 0.34 * track + 1.2 * (side - LANE - 0.4).clamp(0, 0.5)
            ).clamp(0, 0.85)[:, None]
            road = road * (1 - drift) + snow * 0.85 * drift
        colour = torch.where((label == _ROAD)[:, None], road, torch.where((label == _WALK)[:, None], walk, grass))
        lit = 1.0 - hits.shadow[index]
        gutter = (1.0 - 0.25 * torch.exp(-((side - world.road).abs()) * 3.0))[:, None]
        # Under an overcast sky the "sun" is the brightest part overhead; what hides it hides part of the sky as well.
        veil = (0.55 + 0.45 * lit)[:, None] if self.sun[1] > 0.95 else (0.8 + 0.2 * lit)[:, None]
        light = self.skylight * veil + self.sunlight * float(self.sun[1]) * lit[:, None]
        return self._hazed(colour * light * gutter * 0.8, depth)

    def _parts(self, hits: Hits, index: Tensor) -> Tensor:
        row, depth = hits.row[index], hits.depth[index]
        v = [hits.table[k].index_select(0, row) for k in range(22)]
        m, origin, half, look = v[:9], v[9:12], v[12:15], v[15:]
        ray = hits.rays[:, index]
        q = [origin[k] + depth * (m[3 * k] * ray[0] + m[3 * k + 1] * ray[1] + m[3 * k + 2] * ray[2]) for k in range(3)]
        shape = hits.shape.index_select(0, row)
        size = [c.abs() for c in q]
        axis = torch.where(
            size[1] > size[0], torch.where(size[2] > size[1], 2, 1), torch.where(size[2] > size[0], 2, 0)
        )
        side = size[1] ** 2 < q[0] ** 2 + q[2] ** 2
        zero = torch.zeros_like(depth)
        normal = []
        for k in range(3):
            flat = torch.where(axis == k, q[k].sign(), zero)
            rod = torch.where(side, zero, q[1].sign()) if k == 1 else torch.where(side, q[k], zero)
            normal.append(torch.where(shape == BOX, flat, torch.where(shape == CYLINDER, rod, q[k])))
        world_normal = torch.stack([m[k] * normal[0] + m[3 + k] * normal[1] + m[6 + k] * normal[2] for k in range(3)])
        world_normal = _unit(world_normal)
        toward = _unit(ray)
        facing = -(world_normal * toward).sum(0)
        foot = depth * hits.pixel / facing.clamp_min(0.06)
        place = [ray[k] * depth + hits.eye[k] for k in range(3)]
        mirror = toward + 2.0 * facing * world_normal
        sky = self._sky_colour(mirror)
        material = hits.material[index]
        colour = torch.stack(look[:3], -1)
        gloss = torch.zeros_like(depth)  # share of the mirrored sky
        param = look[3:]
        paints = {
            FACADE: self._facade, ROOF: self._roof, PLAIN: self._plain, FOLIAGE: self._foliage, CAR_BODY: self._car,
            CAR_GLASS: self._cabin, WHEEL: self._wheel, SIGN: self._sign,
        }  # fmt: skip
        for kind, paint in paints.items():
            these = (material == kind).nonzero()[:, 0]
            if len(these):
                own, sizes, params, where = ([c[these] for c in columns] for columns in (q, half, param, place))
                normals = world_normal[:, these]
                surface = _Surface(colour[these], own, sizes, params, axis[these], normals, where, foot[these])
                colour[these], gloss[these] = paint(surface)
        sun = (world_normal[0] * self.sun[0] + world_normal[1] * self.sun[1] + world_normal[2] * self.sun[2]).clamp_min(
            0.0
        )
        sun = torch.where((material == FOLIAGE), 0.35 + 0.65 * sun, sun)
        ambient = 0.62 + 0.38 * world_normal[1] + 0.06 * world_normal[0]
        ambient = ambient * (0.7 + 0.3 * (place[1] / 2.5).clamp(0, 1))
        lit = colour * (self.skylight * ambient[:, None] + self.sunlight * sun[:, None]) * 0.8
        # Low mirrors show the street across, not the sky.
        street = (mirror[1] * 4.0 + 0.25).clamp(0.12, 1.0)[:, None]
        fresnel = gloss * (0.35 + 0.65 * (1.0 - facing.clamp(0, 1)) ** 3)
        return self._hazed(lit * (1 - fresnel)[:, None] + sky * street * fresnel[:, None], depth)

    def _facade(self, s: _Surface) -> tuple[Tensor, Tensor]:
        style = self.styles[s.param[0].long()]
        along = torch.where(s.axis == 0, s.q[2], s.q[0])
        length = torch.where(s.axis == 0, s.half[2], s.half[0]) * 2.0
        bays = (length / s.param[1]).round().clamp_min(1.0)
        bay = length / bays
        a = (along + 1.0) * 0.5 * bays
        y, top = (s.q[1] + 1.0) * s.half[1], s.half[1] * 2.0
        is_house = top < 7.5
        first = torch.where(is_house, 2.9, 4.0)
        storey = torch.where(is_house, 2.7, s.param[2])
        ground = y < first
        b = torch.where(ground, y / first, (y - first) / storey)
        floor = torch.where(ground, -1.0, b.floor())
        fa, fb = a - a.floor(), torch.where(ground, b, b - b.floor())
        seed = s.param[3].floor()
        pick = self.noise(a.floor() * 5.0 + seed, floor * 7.0 + seed * 3.0)  # one number a window
        own = self.noise(seed, seed * 2.0)  # one number a building
        shop = ground & ~is_house & (own > -0.6)
        wide = torch.where(shop, 0.88, style[:, 0])
        low, high = (
            torch.where(shop, 0.12, torch.where(ground & ~is_house, 0.3, style[:, 1])),
            torch.where(shop, 0.72, style[:, 2]),
        )
        door = ground & (((a.floor() + seed) % 4.0) == 0.0)
        low, wide = torch.where(door, 0.0, low), torch.where(door, torch.minimum(wide, 1.15 / bay), wide)
        high = torch.where(door, torch.where(is_house, 0.78, 0.68), high)
        fits = ground | (y - b.frac() * storey + storey < top + 0.15)
        dx, dy = (fa - 0.5).abs() - wide / 2, torch.maximum(low - fb, fb - high)
        metres = torch.maximum(dx * bay, dy * torch.where(ground, first, storey))  # negative in the opening
        blur = s.foot.clamp_min(0.02)
        opening = (0.5 - metres / blur).clamp(0, 1) * fits
        frame_width = torch.where(style[:, 3] > 0.0, 0.09, 0.05)
        frame = ((0.5 - (metres.abs() - frame_width * 0.6) / blur).clamp(0, 1)) * fits
        mullion = ((fa - 0.5).abs() * bay < style[:, 3]) & (metres < 0) & ~shop
        # The wall itself.
        brick = s.param[0] == 1.0
        m_along = along * length * 0.5
        course = y / 0.16
        joint = ((course.frac() < 0.16) | (((m_along / 0.4) + 0.5 * (course.floor() % 2.0)) % 1.0 < 0.07)).float() / (
            1.0 + s.foot * 12.0
        )
        tone = 0.05 * self.noise(m_along * 3.0 + seed, y * 3.0) + 0.05 * self.smooth(m_along * 0.5 + seed, y * 0.5)
        tone = tone + brick * (
            0.12 * self.noise((m_along / 0.4).floor() * 2.0, course.floor() * 2.0) / (1.0 + s.foot * 8.0)
        )
        wall = s.colour * (1.0 + tone)[:, None]
        wall = wall + (0.45 - wall) * (joint * brick * 0.45)[:, None]
        panel = (s.param[0] == 3.0) & ((fa < 0.03) | (fb < 0.03))
        band = (fb < 0.06) & ~ground & (s.param[0] == 0.0) & (own > 0.0)
        wall = wall * (1.0 - 0.25 * panel.float() + 0.25 * band.float())[:, None]
        base = torch.where(own > 0.3, 0.62, 0.9)
        wall = torch.where((ground & ~is_house)[:, None], wall * base[:, None], wall)
        fascia = shop & (fb > 0.75) & (fb < 0.93)
        hue = (
            torch.stack([self.noise(seed + k * 17.0 + a.div(3.0).floor() * 4.0, seed) for k in range(3)], -1) * 0.22
            + 0.3
        )
        wall = torch.where(fascia[:, None], hue.clamp(0.03, 0.8), wall)
        # What is in the opening: glass, curtains, doors.
        glass = (
            torch.where(shop, 0.07, 0.035)[:, None]
            * self._colour((0.85, 1.0, 1.15))
            * (1.0 + 0.3 * pick)[:, None].clamp_min(0.2)
        )
        glass = torch.where(((pick > 0.9) & (fb > 0.55) & ~shop)[:, None], self._colour((0.45, 0.42, 0.36)), glass)
        glass = torch.where(((style[:, 0] > 0.9) & (pick > 0.4))[:, None], glass * 1.8, glass)
        panelled = door & ~shop
        wood = torch.where((own > 0)[:, None], self._colour((0.16, 0.07, 0.03)), self._colour((0.04, 0.09, 0.08)))
        glass = torch.where(panelled[:, None], wood, glass)
        shine = torch.where(panelled, 0.05, 0.6)
        rim = torch.where(own > -0.4, style[:, 4], 0.06)[:, None].expand_as(wall)
        glass = torch.where(mullion[:, None], rim, glass)
        shine = torch.where(mullion, 0.0, shine)
        seen = opening[:, None]
        colour = wall * (1 - seen) + glass * seen
        colour = colour + (rim * 0.8 - colour) * (frame * 0.8)[:, None]
        roof = s.axis == 1
        slab = self._colour((0.7, 0.73, 0.78)) if self.winter else self._colour((0.14, 0.14, 0.14))
        colour = torch.where(roof[:, None], slab, colour)
        if self.winter:
            ledge = (dy > 0) & (dy < 0.05) & (fb < low) & (dx < 0)
            colour = torch.where(ledge[:, None], self._colour((0.78, 0.8, 0.85)), colour)
        return colour, torch.where(roof, 0.0, opening * (1 - frame) * shine)

    def _roof(self, s: _Surface) -> tuple[Tensor, Tensor]:
        tiles = s.q[1] * s.half[1] * 3.0
        colour = (
            s.colour
            * (0.9 + 0.2 * tiles.frac().abs() + 0.08 * self.noise(s.q[2] * s.half[2] * 4.0, tiles.floor()))[:, None]
        )
        if self.winter:
            patch = (self.smooth(s.place[0] * 0.7, s.place[2] * 0.7 + s.place[1]) < 1.0)[:, None]
            colour = torch.where(patch, self._colour((0.74, 0.77, 0.82)), colour)
        gable = s.axis == 2
        wall = torch.stack(s.param[:3], -1)
        return torch.where(gable[:, None], wall, colour), torch.zeros_like(s.foot)

    def _foliage(self, s: _Surface) -> tuple[Tensor, Tensor]:
        hue = (s.param[0] % 1.0)[:, None]
        colour = self.dark * (1 - hue) + self.bright * hue
        # Noise in the plane that the surface faces most, so that no direction is stretched.
        turned = s.normal.abs()
        flat, across = (turned[1] > turned[0]) & (turned[1] > turned[2]), turned[0] > turned[2]
        a = torch.where(across & ~flat, s.place[2], s.place[0])
        b = torch.where(flat, s.place[2], s.place[1])
        leaf = (self.noise(a * 9.0, b * 9.0) + 0.7 * self.noise(a * 19.0 + 5.0, b * 19.0)) / (1.0 + s.foot * 4.0)
        clump = self.smooth(a * 2.6, b * 2.6 + 31.0)
        up = s.normal[1] * 0.5 + 0.5
        tone = (0.55 + 0.6 * up + 0.27 * leaf + 0.24 * clump).clamp_min(0.12)
        colour = colour * tone[:, None]
        if self.season == "spring":
            bloom = (s.param[1] > 0.5) & (leaf + 0.5 * clump > -0.1)
            colour = torch.where(bloom[:, None], self._colour((0.75, 0.5, 0.55)) * tone.clamp_min(0.5)[:, None], colour)
        if self.winter:
            snow = ((up - 0.62) * 2.5 + 0.3 * leaf + 0.25 * clump).clamp(0, 0.9)[:, None]
            colour = colour * (1 - snow) + self._colour((0.76, 0.79, 0.84)) * snow
        return colour, torch.zeros_like(s.foot)

    def _car(self, s: _Surface) -> tuple[Tensor, Tensor]:
        x, y, z = s.q
        end = s.axis == 2
        rear = end & (z < 0)
        colour = s.colour.clone()
        colour = torch.where((y < -0.62)[:, None], torch.full_like(colour, 0.03), colour)
        lamp = end & (x.abs() > 0.62) & (y > 0.05) & (y < 0.7)
        colour = torch.where((lamp & rear)[:, None], self._colour((0.6, 0.02, 0.02)), colour)
        colour = torch.where((lamp & ~rear)[:, None], self._colour((0.9, 0.9, 0.82)), colour)
        plate = end & (x.abs() < 0.28) & (y > -0.35) & (y < 0.0)
        colour = torch.where(plate[:, None], self._colour((0.7, 0.7, 0.66)), colour)
        grille = end & ~rear & (x.abs() < 0.5) & (y > 0.1) & (y < 0.6)
        colour = torch.where(grille[:, None], self._colour((0.03, 0.03, 0.03)), colour)
        flank = s.axis == 0
        arch = flank & (torch.hypot((z.abs() - 0.62) * s.half[2], (y + 1.0) * s.half[1] + 0.0) < 0.42)
        colour = torch.where(arch[:, None], self._colour((0.015, 0.015, 0.015)), colour)
        seam = flank & ((z - 0.05).abs() * s.half[2] < 0.02) & (s.foot < 0.08)
        colour = torch.where(seam[:, None], colour * 0.4, colour)
        gloss = torch.where(plate | lamp | (y < -0.62) | arch, 0.05, 0.38)
        return self._snowed(colour, s, s.param[1]), gloss

    def _cabin(self, s: _Surface) -> tuple[Tensor, Tensor]:
        roof = s.axis == 1
        # Only the outer end of each of the two boxes is an end of the cabin.
        outer = s.q[2] * s.param[3] < -0.88
        along = s.q[2] * s.half[2] - s.param[3] * s.param[2] / 2 * (1.0 - s.q[1])  # from the cabin's middle, metres
        pillar = (s.axis == 0) & (outer | (along.abs() < 0.06))
        metal = roof | pillar | (s.q[1] > 0.84) | ((s.axis == 2) & (s.q[0].abs() > 0.9))
        seats = (s.axis == 2) & ((s.q[0].abs() - 0.45).abs() < 0.2) & (s.q[1] < 0.1)
        pane = torch.where(seats[:, None], 0.012, 0.03) * self._colour((0.9, 1.0, 1.1))
        colour = torch.where(metal[:, None], s.colour, pane)
        return self._snowed(colour, s, torch.where(roof, s.param[1], 0.0)), torch.where(
            metal, 0.35, torch.where(seats, 0.35, 0.6)
        )

    def _snowed(self, colour: Tensor, s: _Surface, amount: Tensor) -> Tensor:
        if not self.winter:
            return colour
        patch = self.smooth(s.q[0] * s.half[0] * 5.0 + s.param[0] * 90.0, s.q[2] * s.half[2] * 5.0)
        lies = (s.normal[1] > 0.7) & (patch < 2.6 * amount - 1.6)
        return torch.where(lies[:, None], self._colour((0.78, 0.8, 0.85)), colour)

    def _wheel(self, s: _Surface) -> tuple[Tensor, Tensor]:
        hub = torch.hypot(s.q[0], s.q[2]) < 0.62
        spoke = hub & (torch.hypot(s.q[0], s.q[2]) > 0.16) & (torch.sin(torch.atan2(s.q[0], s.q[2]) * 5.0) > 0.2)
        return torch.where(hub[:, None], torch.where(spoke[:, None], 0.12, 0.4), s.colour), torch.zeros_like(s.foot)

    def _sign(self, s: _Surface) -> tuple[Tensor, Tensor]:
        picture = s.param[0].long()
        x, y = s.q[0], torch.where(picture < 3, -s.q[2], s.q[1])  # a disc's own y looks ahead and its own z down
        front = torch.where(picture < 3, s.q[1] < -0.9, (s.axis == 2) & (s.q[2] < 0))
        r = torch.hypot(x, y)
        red, blue, yellow, white, black = (
            (0.62, 0.02, 0.025),
            (0.02, 0.1, 0.45),
            (0.85, 0.55, 0.02),
            (0.85, 0.85, 0.83),
            (0.02, 0.02, 0.02),
        )
        rim = torch.maximum(x.abs(), y.abs()) > 0.86
        bar = (y.abs() < 0.18) & (x.abs() < 0.62)
        arrow = (x.abs() < 0.14) & (y.abs() < 0.6)
        lines = (((y * 2.5 + 0.25) % 1.0) < 0.4) & (x.abs() < 0.75) & (y.abs() < 0.8)
        colour = s.colour.clone()
        for number, base, ink, mask in (
            (0, white, red, r > 0.7), (1, blue, white, arrow | (r > 0.93)), (2, red, white, bar | (r > 0.93)),
            (3, yellow, black, rim | arrow),
            (4, blue, white, rim | arrow | ((x > 0) & (r < 0.4))), (5, blue, white, rim | lines),
        ):  # fmt: skip
            face = torch.where(mask[:, None], self._colour(ink), self._colour(base))
            colour = torch.where(((picture == number) & front)[:, None], face, colour)
        green = (picture == 5) & front & (s.param[1] > 0.5)
        return torch.where(
            green[:, None],
            torch.where((rim | lines)[:, None], self._colour(white), self._colour((0.02, 0.25, 0.1))),
            colour,
        ), torch.full_like(s.foot, 0.04)

    def _plain(self, s: _Surface) -> tuple[Tensor, Tensor]:
        tone = 1.0 + 0.07 * self.noise((s.q[0] + s.q[2]) * 6.0, s.q[1] * 9.0)
        colour = s.colour * tone[:, None]
        return self._snowed(colour, s, s.param[1]), torch.full_like(s.foot, 0.02)


@dataclass
class _Surface:
    """The hits on one material: colour (k, 3), normal (3, k), lists of (k,): own and world coordinates, half sizes."""

    colour: Tensor
    q: list[Tensor]
    half: list[Tensor]
    param: list[Tensor]
    axis: Tensor
    normal: Tensor
    place: list[Tensor]
    foot: Tensor  # metres of surface along a ray's footprint


def _unit(v: Tensor) -> Tensor:
    """Vectors (3, n) at length one."""
    return v * torch.rsqrt((v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).clamp_min(1e-12))


def _noise_tile() -> Tensor:
    """(512 * 512,) of noise whose spectrum falls as 1 / f, mean 0, deviation 1; the same for everybody."""
    generator = torch.Generator().manual_seed(20)
    white = torch.randn((_TILE, _TILE), generator=generator)
    fx, fy = torch.fft.rfftfreq(_TILE)[None, :] * _TILE, torch.fft.fftfreq(_TILE)[:, None] * _TILE
    spectrum = torch.fft.rfft2(white) / torch.sqrt(fx**2 + fy**2 + 30.0**2)
    tile = torch.fft.irfft2(spectrum, s=(_TILE, _TILE))
    return ((tile - tile.mean()) / tile.std()).flatten().contiguous()
