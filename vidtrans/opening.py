"""What a run opens before its first frame: the input, the network for its source domain, an engine, the composers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from vidtrans.checkpoint import Model
from vidtrans.compose import Composer
from vidtrans.engines import Choice, choose, open_engine
from vidtrans.engines.contract import Engine, working_size
from vidtrans.errors import UsageError
from vidtrans.nets.contract import Domain, domain_named
from vidtrans.nets.pixel_space import PixelSpace, in_one_space
from vidtrans.options import UpsampleOptions
from vidtrans.video.colour import to_uint8_rgb
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.input_form import SAYS_ITSELF, InputForm, reopened, spoken
from vidtrans.video.local_file import DEFAULT_MAX_PIXELS, Source
from vidtrans.video.output_plan import OutputPlan
from vidtrans.video.source import FrameSource, open_source
from vidtrans.video.video_info import VideoInfo

# What runs networks that translate clips.
CLIP_ENGINE = "torch"


def opened_reader(options: UpsampleOptions) -> FrameSource:
    """The input, read as the options say."""
    return open_source(
        options.input,
        *options.span,
        form=options.input_form,
        expect_frames=options.expect_frames,
        told=options.colour_told,
        deinterlace=options.deinterlace == "auto",
        max_pixels=options.max_pixels,
    )


def source_domain(model: Model, options: UpsampleOptions) -> str:
    """The input's domain: as told, or the model's only one that is no target.

    Raises:
        UsageError: the model lacks a domain, or cannot tell.
    """
    domains = model.net.domains
    targets = [domain_named(domains, target).name for target in options.targets]
    others = [domain.name for domain in domains if domain.name not in targets]
    if options.from_ is None:
        if len(others) > 1:
            raise UsageError(f"the model has several domains to come from; give --from, one of {', '.join(others)}")
        if not others:
            raise UsageError(f"--to names all domains of the model; leave out the input's: {', '.join(targets)}")
        return others[0]
    source = domain_named(domains, options.from_).name
    if source in targets:
        rest = [domain.name for domain in domains if domain.name != source]
        raise UsageError(f"--from and --to are both {source}; translate into another domain: {', '.join(rest)}")
    return source


def ready_for(model: Model, source: str) -> Model:
    """The model as one that encodes and decodes footage of the source domain."""
    return replace(model, net=in_one_space(model.net, source))


def remarks_on_way(model: Model, options: UpsampleOptions) -> list[str]:
    """A line where frames are not made as this tool usually makes them. model: as `ready_for` gives it."""
    if not isinstance(model.net, PixelSpace) or not options.writes_source:
        return []
    source, targets = model.net.source, ", ".join(options.targets)
    return [
        f"the domains of this {model.net.family} model share no latent space: frames in between are made in {source} "
        f"first, then every frame is translated into {targets}"
    ]


def carries_detail(model: Model, source: str, target: str, options: UpsampleOptions) -> bool:
    """Whether what decoders lose of the input is added to the target's frames: between photos only.

    A network from picture to picture loses nothing on the way, so what it makes is written as it is.
    """
    if target != source and isinstance(model.net, PixelSpace):
        return False
    labels = any(domain_named(model.net.domains, name).is_label for name in (source, target))
    return not labels and (options.detail if target == source else options.detail_to) == "keyframes"


def decodes_source(model: Model, source: str, options: UpsampleOptions) -> bool:
    """Whether keyframes are decoded into their own domain: it is written, or what is lost of it is carried."""
    return options.writes_source or any(carries_detail(model, source, target, options) for target in options.targets)


def work_per_frame(model: Model, source: str, options: UpsampleOptions) -> tuple[int, int]:
    """How often the network encodes a keyframe, and how often it decodes a frame of the outputs, all domains together.

    A picture that stands for its own latent is neither encoded nor decoded; windows of clips overlap by half.
    """
    targets = len(options.targets)
    if not isinstance(model.net, PixelSpace):
        return 1, targets + decodes_source(model, source, options)
    return 0, targets * (2 if model.net.clip > 1 else 1)


def chosen_engine(model: Model, options: UpsampleOptions) -> Choice:
    """The engine and the device of a run.

    Raises:
        UsageError: no such engine, or not for a network that translates clips.
    """
    choice = choose(options.engine, options.device)
    if clip_length(model) == 1 or choice.engine == CLIP_ENGINE:
        return choice
    if options.engine != "auto":
        raise UsageError(
            f"the {options.engine} engine takes single pictures, and this model translates {clip_length(model)} frames "
            f"at once; use --engine {CLIP_ENGINE}"
        )
    return Choice(CLIP_ENGINE, choice.device, "the one that translates clips")


def clip_length(model: Model) -> int:
    """How many frames the network of `ready_for` translates at once; 1: single pictures."""
    return model.net.clip if isinstance(model.net, PixelSpace) else 1


def started_engine(
    model: Model, source: str, info: VideoInfo, options: UpsampleOptions, report: Callable[[str], None]
) -> tuple[Engine, str]:
    """The engine, and why this one; report hears lines while it takes long.

    Of a network that translates clips it has the source domain only: the stage clips.Clips does the rest.
    """
    size = options.size or working_size((info.width, info.height), model.net.sizes.trained[1])
    choice = chosen_engine(model, options)
    clips = clip_length(model) > 1
    engine = open_engine(
        choice.engine,
        model.net,
        source,
        () if clips else options.targets,
        size,
        decode_source=clips or decodes_source(model, source, options),
        device=choice.device,
        precision=options.precision,
        samples=lambda: footage_samples(options.input, options.input_form, options.colour_told, options.max_pixels),
        report=report,
    )
    return engine, choice.reason


def footage_samples(
    path: Source,
    form: InputForm = SAYS_ITSELF,
    told: Told = NOTHING_TOLD,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Tensor:
    """Frames from the video's first seconds, (B, H, W, 3) uint8: an engine may calibrate on them.

    Raises:
        UsageError: the video can be read only once.
    """
    if isinstance(path, Path) and reopened(path) is None:
        raise UsageError(
            f"--precision int8 is first calibrated on the footage, and {spoken(path)} is a pipe, read only once; "
            "give another --precision, or name a file"
        )
    with open_source(path, form=form, told=told, max_pixels=max_pixels) as reader:
        return torch.stack([torch.from_numpy(to_uint8_rgb(frame)) for frame in islice(reader, 0, 64, 4)])


def run_domains(model: Model, source: str, options: UpsampleOptions) -> list[Domain]:
    """The domains that are written: the source where the options want it, and the targets."""
    names = (source, *options.targets) if options.writes_source else options.targets
    return [domain_named(model.net.domains, name) for name in names]


def composers_of(
    model: Model, source: str, info: VideoInfo, plans: Sequence[OutputPlan], options: UpsampleOptions
) -> list[Composer]:
    """One for each output, as its plan says."""
    return [
        Composer(
            plan.domain,
            scores=model.net.has_scores(plan.domain.name),
            size=(info.width, info.height),
            pix_fmt=plan.pix_fmt,
            colour=plan.colour,
            is_source=plan.domain.name == source,
            carry_detail=carries_detail(model, source, plan.domain.name, options),
            index=plan.index,
        )
        for plan in plans
    ]
