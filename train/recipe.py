"""What a training run is told: frozen dataclasses that check themselves, read from TOML. All defaults stand here."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidtrans.errors import UsageError, nearest_names
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDMConfig
from vidtrans.palette_files import palette_from
from vidtrans.palettes import Palette

RECIPES = Path(__file__).parent / "recipes"


def _one_of(field_name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{field_name} must be one of {', '.join(map(str, allowed))}, not {value!r}")


@dataclass(frozen=True)
class DomainData:
    """One domain and where its frames come from.

    Attributes:
        name, kind: as in nets.contract.Domain.
        palette: the same; in TOML also a palette file (vidtrans/palette_files.py) or a table of its own.
        data: a folder, or "READER:FOLDER?option=value" (see data/layouts.py and docs/training.md), or "street:scene" |
            "street:segmentation" | "street:spring" ... for rendered frames.
    """

    name: str
    data: str
    kind: str = "photo"
    palette: str | Palette | None = None

    @property
    def domain(self) -> Domain:
        return Domain(self.name, self.kind, self.palette)


@dataclass(frozen=True)
class DataOptions:
    """Frames and how they are changed before the net sees them.

    Attributes:
        size: (width, height) in pixels of a training frame; pictures are resized to it whatever their aspect.
        crop: (width, height) of a random crop after the resize; None for none.
        flip: mirror half of the frames left to right.
        jitter: how far brightness, contrast and saturation of a photo may move, as a share; its hue a quarter of that.
            Labels keep their colours.
        test_share: the last part of each domain's frames in time that training does not see; its list and that of the
            frames it sees stand in the run folder. Not for rendered streets, which are held out by their seeds.
        test_clip: frames of a test clip; clips never cross the border of a sequence or of a part.
        strict: a file that cannot be read ends the run; else the next one takes its place, and it is named.
        street_frames: instants drawn per `street:` domain.
        street_frames_per_seed: instants taken from each rendered street.
        street_seed: first seed; domain number d starts at street_seed + d * 1,000,000, so no street is in two domains.
        street_clip: frames rendered from each instant on, street_spacing seconds apart; they are one sequence.
        street_render: "cache" renders everything first and keeps it on disk; "workers" and "device" render a batch when
            it is drawn and keep nothing, in threads of the processor or on the training device.
    """

    size: tuple[int, int] = (128, 128)
    crop: tuple[int, int] | None = None
    flip: bool = False
    jitter: float = 0.0
    test_share: float = 0.0
    test_clip: int = 9
    strict: bool = False
    street_frames: int = 2000
    street_frames_per_seed: int = 4
    street_seed: int = 1_000_000
    street_clip: int = 1
    street_spacing: float = 1 / 60
    street_render: str = "cache"

    def __post_init__(self) -> None:
        for name, size in (("size", self.size), ("crop", self.crop)):
            if size is not None and (len(size) != 2 or min(size) < 36):
                raise UsageError(f"data.{name} must be [width, height] with at least 36 pixels each, not {list(size)}")
        if self.crop is not None and (self.crop[0] > self.size[0] or self.crop[1] > self.size[1]):
            raise UsageError(f"data.crop {list(self.crop)} does not fit into data.size {list(self.size)}")
        if min(self.street_frames, self.street_frames_per_seed, self.street_clip, self.test_clip) < 1:
            raise UsageError("data.street_frames, street_frames_per_seed, street_clip and test_clip must be at least 1")
        if self.street_spacing <= 0.0:
            raise UsageError(f"data.street_spacing must be more than 0 seconds, not {self.street_spacing}")
        if not 0.0 <= self.jitter <= 0.5:
            raise UsageError(f"data.jitter must be from 0 to 0.5, not {self.jitter}")
        if not 0.0 <= self.test_share < 1.0:
            raise UsageError(f"data.test_share must be in [0, 1), not {self.test_share}")
        _one_of("data.street_render", self.street_render, ("cache", "workers", "device"))

    @property
    def trained_size(self) -> tuple[int, int]:
        return self.crop or self.size


@dataclass(frozen=True)
class LossOptions:
    """Weights and choices of the objective; the defaults are the paper's with the decisions J4-J10 of docs/method.md.

    Attributes:
        lambda_x, lambda_y, lambda_z: weights of the divergences in Eq. (6).
        cycle_share: lambda of Eqs. (19), (20), the share of cycle reconstructions among a discriminator's fakes.
        prior: "relu", "gaussian" or "uniform" (J4).
        discriminator: "table5", "patch70" or "coordinates"; discriminator_width: channels of its first layer.
        latent_discriminator_width: channels of Dz's hidden layers.
        label_cost: "l1" on colours (the paper) or "cross_entropy" on a palette head's class scores.
        label_weight: factor of a label domain's terms in Eq. (7); 1 in the paper. Cross-entropy in nats is several
            times larger than an L1 distance, and would leave the photo domain little of the optimiser's steps.
        hard_cycle: a cycle through labels encodes pure class colours (straight-through gradient).
        photo_cycle_weight: factor of the photo domain's cycle term in Eq. (7); 1 in the paper.
        photo_cycle_pool: the photo's cycle term compares means of squares this many pixels wide; 1 in the paper.
    """

    lambda_x: float = 0.1
    lambda_y: float = 0.1
    lambda_z: float = 0.1
    cycle_share: float = 0.5
    prior: str = "relu"
    discriminator: str = "table5"
    discriminator_width: int = 64
    latent_discriminator_width: int = 512
    label_cost: str = "l1"
    label_weight: float = 1.0
    hard_cycle: bool = False
    photo_cycle_weight: float = 1.0
    photo_cycle_pool: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.cycle_share < 1.0:
            raise UsageError(f"loss.cycle_share must be in [0, 1), not {self.cycle_share}")
        if min(self.lambda_x, self.lambda_y, self.lambda_z, self.photo_cycle_weight, self.label_weight) < 0.0:
            raise UsageError("weights of the loss must not be negative")
        if min(self.discriminator_width, self.latent_discriminator_width, self.photo_cycle_pool) < 1:
            raise UsageError("widths and photo_cycle_pool of the loss must be at least 1")
        _one_of("loss.prior", self.prior, ("relu", "gaussian", "uniform"))
        _one_of("loss.discriminator", self.discriminator, ("table5", "patch70", "coordinates"))
        _one_of("loss.label_cost", self.label_cost, ("l1", "cross_entropy"))


@dataclass(frozen=True)
class TrainOptions:
    """Length, speed and bookkeeping of a run.

    Attributes:
        batch: frames per domain and step.
        constant, decay: length at the full learning rate, then of its linear way to zero, in `unit`.
        warmup: the first part of `constant`, in `unit`, that only reconstructs (Eq. 7's plain terms): the adversaries
            then meet encoders and decoders that already know their own domain. 0 in the paper.
        unit: "steps" or "epochs" (an epoch shows as many frames as the larger domain has).
        optimiser: of the generators: "adam" (the paper), or "muon", which learns to reconstruct several times faster.
        lr: the learning rate; betas: Adam's decays (CycleGAN's, the paper is silent).
        ema: decay of the moving average of F that is saved as the model; 0 saves F itself.
        precision: "fp32" or "bf16" (autocast).
        seed: of every random draw.
        save_every, sample_every, log_every: steps between checkpoints, sample grids, log lines.
    """

    batch: int = 8
    constant: int = 100
    decay: int = 100
    warmup: int = 0
    unit: str = "epochs"
    optimiser: str = "adam"
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    ema: float = 0.999
    precision: str = "fp32"
    seed: int = 0
    save_every: int = 500
    sample_every: int = 500
    log_every: int = 20

    def __post_init__(self) -> None:
        if min(self.batch, self.save_every, self.sample_every, self.log_every) < 1:
            raise UsageError("train.batch, save_every, sample_every and log_every must be at least 1")
        if self.constant < 0 or self.decay < 0 or self.constant + self.decay < 1:
            raise UsageError("train.constant and train.decay must not be negative, and one of them at least 1")
        if not 0 <= self.warmup <= self.constant:
            raise UsageError(f"train.warmup must be from 0 to train.constant ({self.constant}), not {self.warmup}")
        if not (0.0 <= self.ema < 1.0 and self.lr > 0.0):
            raise UsageError("train.ema must be in [0, 1) and train.lr above 0")
        _one_of("train.optimiser", self.optimiser, ("adam", "muon"))
        _one_of("train.unit", self.unit, ("steps", "epochs"))
        _one_of("train.precision", self.precision, ("fp32", "bf16"))


@dataclass(frozen=True)
class Recipe:
    """A whole training run. net: fields of JWDMConfig but domains and trained_size, which follow from the rest."""

    domains: tuple[DomainData, ...]
    net: dict[str, Any] = field(default_factory=dict)
    data: DataOptions = field(default_factory=DataOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    train: TrainOptions = field(default_factory=TrainOptions)

    def __post_init__(self) -> None:
        if len(self.domains) != 2:
            raise UsageError(f"a recipe needs two [[domains]], this one has {len(self.domains)}")
        config = self.net_config()
        width, height = self.data.trained_size
        if width % 4 or height % 4:
            raise UsageError(f"the training size {width}x{height} must be divisible by 4")
        if self.loss.discriminator == "table5" and min(width, height) < 64:
            raise UsageError(f"the table5 discriminator needs 64x64 pixels at least, not {width}x{height}")
        if self.loss.prior == "relu" and config.embedding == "linear":
            raise UsageError("a linear embedding needs loss.prior gaussian or uniform")
        scores = any(row.kind == "label" for row in self.domains) and config.label_head == "palette"
        if not scores and (self.loss.label_cost == "cross_entropy" or self.loss.hard_cycle):
            raise UsageError("cross_entropy and hard_cycle need a label domain and net.label_head palette")

    def net_config(self) -> JWDMConfig:
        known = [f.name for f in dataclasses.fields(JWDMConfig) if f.name not in ("domains", "trained_size")]
        _check_keys("net", self.net, known)
        return JWDMConfig(
            domains=tuple(row.domain for row in self.domains), trained_size=self.data.trained_size, **self.net
        )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _check_keys(section: str, row: dict[str, Any], known: list[str]) -> None:
    for key in row:
        if key not in known:
            raise UsageError(f"unknown key {section}.{key} in the recipe; {nearest_names(key, known)}")


def _section(cls: type[Any], name: str, row: dict[str, Any]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    _check_keys(name, row, list(fields))
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})
    except TypeError as error:
        raise UsageError(f"[{name}] of the recipe is wrong: {error}") from error


def parse_recipe(table: dict[str, Any]) -> Recipe:
    """A recipe from a parsed TOML table (or from `Recipe.to_json`).

    Raises:
        UsageError: an unknown key (the nearest known one is named) or a value that does not fit.
    """
    _check_keys("recipe", table, [f.name for f in dataclasses.fields(Recipe)])
    return Recipe(
        domains=tuple(
            _section(DomainData, "domains", {**row, "palette": palette_from(row.get("palette"))})
            for row in table.get("domains", ())
        ),
        net=dict(table.get("net", {})),
        data=_section(DataOptions, "data", table.get("data", {})),
        loss=_section(LossOptions, "loss", table.get("loss", {})),
        train=_section(TrainOptions, "train", table.get("train", {})),
    )


def load_recipe(name: str, changes: tuple[str, ...] = ()) -> Recipe:
    """The recipe of that path, or of that name in train/recipes, with `section.key=value` changes applied.

    Raises:
        UsageError: no such recipe, not TOML, or not a recipe.
    """
    path = Path(name)
    if not path.is_file():
        known = sorted(found.stem for found in RECIPES.glob("*.toml"))
        if name not in known:
            raise UsageError(f"no recipe {name!r}, neither a file nor bundled; {nearest_names(name, known)}")
        path = RECIPES / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    for change in changes:
        _apply(table, change)
    return parse_recipe(table)


def _apply(table: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    parts = key.split(".")
    if not equals or len(parts) < 2:
        raise UsageError(f"--set takes section.key=value, not {change!r}")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    section: Any = table
    for part in parts[:-1]:
        if isinstance(section, list):
            section = next((row for row in section if row.get("name") == part), None)
        else:
            section = section.setdefault(part, {})
        if not isinstance(section, dict | list):
            raise UsageError(f"--set {change}: the recipe has no {part!r}")
    if isinstance(section, list):
        raise UsageError(f"--set {change}: name the domain, as in domains.{section[0].get('name')}.data=...")
    section[parts[-1]] = value
