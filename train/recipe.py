"""What a training run is told: frozen dataclasses that check themselves, read from TOML. All defaults stand here."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidtrans.errors import UsageError, nearest_names, one_of
from vidtrans.nets import config_class
from vidtrans.nets.contract import Domain
from vidtrans.palette_files import palette_from
from vidtrans.palettes import Palette
from vidtrans.train.keep_options import KeepOptions
from vidtrans.train.methods import imported, method_named

RECIPES = Path(__file__).parent / "recipes"
FOLLOWS = ("domains", "trained_size", "clip")  # fields of a network's config that the rest of a recipe decides


@dataclass(frozen=True)
class DomainData:
    """One domain and where its frames come from.

    Attributes:
        name, kind: as in nets.contract.Domain.
        palette: the same; in TOML also a palette file (vidtrans/palette_files.py) or a table of its own.
        data: a folder, or "READER:FOLDER?option=value" (see data/layouts.py and docs/training.md), or "street:scene" |
            "street:segmentation" | "street:spring" ... for rendered frames.
        start: the domain of the --init-from model whose networks this one begins as; "": the one of its own name.
            Domains that begin alike share the latent space from the first step on.
    """

    name: str
    data: str
    kind: str = "photo"
    palette: str | Palette | None = None
    start: str = ""

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
        clip: frames that a sample reaches over, for losses over time (see the method's [loss]); 1 for single frames.
        clip_distance: from a frame of a sample to its next, counted in frames of the footage.
        jitter: how far brightness, contrast and saturation of a photo may move, as a share; its hue a quarter of that.
            Labels keep their colours.
        test_share: the last part of each domain's frames in time that training does not see, for scores and figures;
            its list and that of the frames it sees stand in the run folder. Of rendered streets the last ones, whole.
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
    clip: int = 1
    clip_distance: int = 1
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
        if self.clip < 1 or self.clip_distance < 1:
            raise UsageError("data.clip and data.clip_distance must be at least 1")
        if self.street_spacing <= 0.0:
            raise UsageError(f"data.street_spacing must be more than 0 seconds, not {self.street_spacing}")
        if not 0.0 <= self.jitter <= 0.5:
            raise UsageError(f"data.jitter must be from 0 to 0.5, not {self.jitter}")
        if not 0.0 <= self.test_share < 1.0:
            raise UsageError(f"data.test_share must be in [0, 1), not {self.test_share}")
        one_of("data.street_render", self.street_render, ("cache", "workers", "device"))

    @property
    def trained_size(self) -> tuple[int, int]:
        return self.crop or self.size


@dataclass(frozen=True)
class TrainOptions:
    """Length, speed and bookkeeping of a run.

    Attributes:
        batch: samples per domain and step, on all ranks together: a recipe means the same on any number of them.
        accumulate: the parts, one after another, in which a rank takes its share of the batch; the result is the same,
            the memory a part's. Every part is passed forward twice.
        constant, decay: length at the full learning rate, then of its linear way to zero, in `unit`. A run without a
            constant part ends what another began, and needs --init-from.
        warmup: the first part of `constant`, in `unit`, that only reconstructs (Eq. 7's plain terms): the adversaries
            then meet encoders and decoders that already know their own domain. 0 in the paper.
        unit: "steps" or "epochs" (an epoch shows as many frames as the larger domain has).
        optimiser: of the generators: "adam" (the paper), or "muon", which learns to reconstruct several times faster.
        lr: the learning rate; betas: Adam's decays (CycleGAN's, the paper is silent).
        discriminator_rate: of the discriminators' learning rate to lr (TTUR, Heusel 2017); 1 in the papers.
        ema: decay of the moving average of F that is saved as the model; 0 saves F itself.
        precision: "fp32", "bf16" or "fp16" (autocast; fp16 with scaled losses), or "fp64" for proofs.
        channels_last: networks and frames with their channels last in memory, as tensor cores want them.
        compile: encoders and decoders through torch.compile.
        checkpointing: encoders and decoders are computed again in the descent and keep nothing: less memory, more time.
        seed: of every random draw.
        save_every, sample_every, log_every: steps between checkpoints, sample grids, log lines.
    """

    batch: int = 8
    accumulate: int = 1
    constant: int = 100
    decay: int = 100
    warmup: int = 0
    unit: str = "epochs"
    optimiser: str = "adam"
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    discriminator_rate: float = 1.0
    ema: float = 0.999
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False
    seed: int = 0
    save_every: int = 500
    sample_every: int = 500
    log_every: int = 20

    def __post_init__(self) -> None:
        if min(self.batch, self.save_every, self.sample_every, self.log_every) < 1:
            raise UsageError("train.batch, save_every, sample_every and log_every must be at least 1")
        if self.accumulate < 1 or self.batch % self.accumulate:
            raise UsageError(f"train.accumulate ({self.accumulate}) must divide train.batch ({self.batch})")
        if self.constant < 0 or self.decay < 0 or self.constant + self.decay < 1:
            raise UsageError("train.constant and train.decay must not be negative, and one of them at least 1")
        if not 0 <= self.warmup <= self.constant:
            raise UsageError(f"train.warmup must be from 0 to train.constant ({self.constant}), not {self.warmup}")
        if not (0.0 <= self.ema < 1.0 and self.lr > 0.0 and self.discriminator_rate > 0.0):
            raise UsageError("train.ema must be in [0, 1), train.lr and train.discriminator_rate above 0")
        one_of("train.optimiser", self.optimiser, ("adam", "muon"))
        one_of("train.unit", self.unit, ("steps", "epochs"))
        one_of("train.precision", self.precision, ("fp32", "bf16", "fp16", "fp64"))


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        domains: two or more; a model of many domains shares one latent space, and every step trains one pair of them.
        method: a row of methods.METHODS.
        net: fields of the method's network config but domains, trained_size and clip, which follow from the rest.
        loss: the method's options (`LossOptions` of jwdm_options.py for jwdm).
        keep: checkpoints, and when to give up.
    """

    domains: tuple[DomainData, ...]
    method: str = "jwdm"
    net: dict[str, Any] = field(default_factory=dict)
    data: DataOptions = field(default_factory=DataOptions)
    loss: Any = None
    train: TrainOptions = field(default_factory=TrainOptions)
    keep: KeepOptions = field(default_factory=KeepOptions)

    def __post_init__(self) -> None:
        if len(self.domains) < 2:
            raise UsageError(f"a recipe needs two or more [[domains]], this one has {len(self.domains)}")
        if self.loss is None:
            object.__setattr__(self, "loss", imported(method_named(self.method).options)())
        width, height = self.data.trained_size
        if width % 4 or height % 4:
            raise UsageError(f"the training size {width}x{height} must be divisible by 4")
        if self.keep.best != "none" and not self.data.test_share:
            raise UsageError(f"keep.best = {self.keep.best!r} is measured on held-back frames; set data.test_share too")
        self.loss.check(self)

    def net_config(self) -> Any:
        """The network's config, of the method's family."""
        cls = config_class(method_named(self.method).family)
        fields = [f.name for f in dataclasses.fields(cls)]
        _check_keys("net", self.net, [name for name in fields if name not in FOLLOWS])
        domains = tuple(row.domain for row in self.domains)
        follows = {"domains": domains, "trained_size": self.data.trained_size, "clip": self.data.clip}
        return cls(**{name: value for name, value in follows.items() if name in fields}, **self.net)

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
    method = table.get("method", "jwdm")
    return Recipe(
        method=method,
        domains=tuple(
            _section(DomainData, "domains", {**row, "palette": palette_from(row.get("palette"))})
            for row in table.get("domains", ())
        ),
        net=dict(table.get("net", {})),
        data=_section(DataOptions, "data", table.get("data", {})),
        loss=_section(imported(method_named(method).options), "loss", table.get("loss", {})),
        train=_section(TrainOptions, "train", table.get("train", {})),
        keep=_section(KeepOptions, "keep", table.get("keep", {})),
    )


def load_recipe(name: str, changes: tuple[str, ...] = ()) -> Recipe:
    """The recipe of that path, or of that name in train/recipes, with `section.key=value` changes applied.

    Raises:
        UsageError: no such recipe, not TOML, or not a recipe.
    """
    table = _table(name, changes)
    table.pop("sweep", None)
    return parse_recipe(table)


def load_sweep(name: str, changes: tuple[str, ...] = ()) -> dict[str, Recipe]:
    """The runs of a recipe's [sweep]: every combination of its values, by a name such as "lambda_z=0.1".

    [sweep] holds `"section.key" = [value, ...]`; with two keys and more every value meets every other.

    Raises:
        UsageError: as `load_recipe`, or it has no [sweep].
    """
    sweep = _table(name, changes).get("sweep")
    if not isinstance(sweep, dict) or not sweep or not all(isinstance(row, list) and row for row in sweep.values()):
        raise UsageError(f'{name} has no [sweep] of lists, such as "loss.lambda_z" = [0.1, 1.0]')
    runs = {}
    for values in itertools.product(*sweep.values()):
        pairs = list(zip(sweep, values, strict=True))
        label = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in pairs)
        runs[label] = load_recipe(name, (*changes, *(f"{key}={json.dumps(value)}" for key, value in pairs)))
    if len(runs) < math.prod(len(row) for row in sweep.values()):
        raise UsageError(f"{name}: two runs of its [sweep] have the same name; keys need different last parts")
    return runs


def _table(name: str, changes: tuple[str, ...]) -> dict[str, Any]:
    """A recipe's TOML on top of its `base`, a bundled recipe or a file beside it, and the changes on top of both."""
    path, table = _read(name)
    bases = [change for change in changes if change.startswith("base=")]
    for change in bases:
        _apply(table, change)
    seen = [path]
    while "base" in table:
        base = str(table.pop("base"))
        beside = seen[-1].parent / base
        path, below = _read(str(beside) if beside.is_file() else base)
        if path in seen:
            raise UsageError(f"{path} is its own base")
        seen.append(path)
        table = _on_top(below, table)
    for change in changes:
        if change not in bases:
            _apply(table, change)
    return table


def _read(name: str) -> tuple[Path, dict[str, Any]]:
    path = Path(name)
    if not path.is_file():
        known = sorted(found.stem for found in RECIPES.glob("*.toml"))
        if name not in known:
            raise UsageError(f"no recipe {name!r}, neither a file nor bundled; {nearest_names(name, known)}")
        path = RECIPES / f"{name}.toml"
    try:
        return path, tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def _on_top(base: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Tables key by key; anything else, [[domains]] too, replaces what the base has."""
    merged = dict(base)
    for key, value in table.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = {**base[key], **value} if both else value
    return merged


def _apply(table: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    parts = key.split(".")
    if not equals or (len(parts) < 2 and key not in ("base", "method")):
        raise UsageError(f"--set takes section.key=value, not {change!r}")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    section: Any = table
    for part in parts[:-1]:
        if isinstance(section, list):
            names = [str(row.get("name")) for row in section]
            if part not in names:
                raise UsageError(f"--set {change}: the recipe has no domain {part!r}; {nearest_names(part, names)}")
            section = section[names.index(part)]
        else:
            section = section.setdefault(part, {})
        if not isinstance(section, dict | list):
            raise UsageError(f"--set {change}: the recipe has no {part!r}")
    if isinstance(section, list):
        raise UsageError(f"--set {change}: name the domain, as in domains.{section[0].get('name')}.data=...")
    section[parts[-1]] = value
