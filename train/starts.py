"""Where a run begins: from random networks, or from those of a finished model."""

from __future__ import annotations

from torch import nn

from vidtrans.checkpoint import Model
from vidtrans.errors import UsageError
from vidtrans.nets.contract import domain_named
from vidtrans.train.jwdm_options import LossOptions
from vidtrans.train.recipe import Recipe

# What all domains of a net with a shared trunk have in common -> what holds it for each domain in one without.
SHARED = {"shared_encoder": "encoders", "shared_decoder": "decoders"}


def check_start(recipe: Recipe, start: Model | None) -> None:
    """Whether the recipe may begin from that model, or from nothing.

    Raises:
        UsageError: it needs one, or this one lacks a domain that the recipe begins with.
    """
    if start is not None:
        for row in recipe.domains:
            domain_named(start.net.domains, row.start or row.name)
        return
    if recipe.loss.needs_start:
        raise UsageError(
            "this recipe learns from what a model already names: start it from a finished one with --init-from, "
            "such as a run of street-start for street-named, or set loss.self_weight=0"
        )
    if isinstance(recipe.loss, LossOptions) and recipe.loss.frozen_trunk and recipe.train.warmup == 0:
        raise UsageError(
            "this recipe leaves the trunk as it begins (loss.frozen_trunk), and a random one is of no use: start it "
            "from a finished model with --init-from, such as a run of seasons-start for seasons, or set train.warmup"
        )
    if recipe.train.constant == 0:
        raise UsageError(
            "this recipe's learning rate falls from its first step on (train.constant = 0), so it ends what another "
            "run began, as street does with street-named: name that one with --init-from, or set train.constant"
        )
    for row in recipe.domains:
        if row.start:
            raise UsageError(
                f"domain {row.name} begins as {row.start} of a finished model: name one with --init-from, such as "
                f"--init-from street, or set domains.{row.name}.start='' to begin from nothing"
            )


def start_from(net: nn.Module, recipe: Recipe, start: Model) -> None:
    """Gives the net the finished model's weights, each domain those of its `start`, by default of its own name.

    What all domains of the net share is taken from what the model's share, or from the one domain that all start as.

    Raises:
        UsageError: its networks have another shape, or domains that start as different ones would share their trunk.
    """
    starts = {row.name: row.start or row.name for row in recipe.domains}
    theirs = start.net.state_dict()

    def source(key: str) -> str:
        # What belongs to one domain has its name in second place, as in encoders.winter.0.weight; what is shared has
        # none, as in shared_encoder.0.weight.
        part, *rest = key.split(".")
        if part in SHARED and key not in theirs:
            first, *others = dict.fromkeys(starts.values())
            if others:
                raise UsageError(
                    f"all domains of this recipe share one trunk (net.shared_trunk), but would start as "
                    f"{', '.join((first, *others))} of that model; give all [[domains]] the same start"
                )
            return ".".join((SHARED[part], first, *rest))
        return ".".join((part, starts.get(rest[0], rest[0]), *rest[1:])) if rest else key

    try:
        net.load_state_dict({key: theirs[source(key)] for key in net.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UsageError("--init-from: that model's network has another shape than the recipe's") from error
