"""vidtrans engine"""

from __future__ import annotations

import re

import click

from vidtrans.cli.parameters import SIZE
from vidtrans.text import plain


@click.group("engine")
def command() -> None:
    """Build, list and remove the TensorRT plans that the tensorrt engine keeps.

    The engine builds a plan itself when it needs one that is not there; building one before saves the wait.
    """


@command.command("build")
@click.argument("model", default="street")
@click.option("--to", metavar="DOMAIN", help="Target domain.  [default: the model's second one]")
@click.option("--from", "from_", metavar="DOMAIN", help="Domain of the input.  [default: the model's other one]")
@click.option("--size", type=SIZE, help="Size at which the network works.  [default: the one it was trained at]")
@click.option(
    "--precision",
    type=click.Choice(("auto", "fp32", "bf16", "fp16")),
    default="auto",
    help="auto, the default, is fp16.",
)
@click.option("--device", help="A GPU of this machine: cuda, cuda:1 ...  [default: cuda]")
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="MAJOR.MINOR",
    help="In place of --device: build for all GPUs of this compute capability, such as 8.9, with tensorrt-rtx and "
    "without a GPU. May be given more than once.",
)
def build(
    model: str,
    to: str | None,
    from_: str | None,
    size: tuple[int, int] | None,
    precision: str,
    device: str | None,
    capabilities: tuple[str, ...],
) -> None:
    """Build the plans of MODEL, a name (vidtrans models list), a model file or a run folder, and keep them.

    Plans serve one working size; a plan for a GPU of this machine is also compared with the reference.
    """
    targets = [_capability(text) for text in capabilities]
    if device is not None and targets:
        raise click.UsageError("give --device or --compute-capability, not both")

    from vidtrans.checkpoint import load_model
    from vidtrans.engines.onnx_export import Graph
    from vidtrans.engines.plan_cache import PlanCache
    from vidtrans.engines.tensorrt_engine import TensorRTEngine, checked_precision, parts_for, unusable
    from vidtrans.engines.tensorrt_plans import Job, Target
    from vidtrans.errors import DeviceError
    from vidtrans.nets.contract import direction, padded_size
    from vidtrans.nets.pixel_space import for_any_engine

    loaded = load_model(model)
    source, target = direction(loaded.net.domains, to, from_)
    net = for_any_engine(loaded.net, source)
    size = size or net.sizes.trained

    def report(text: str) -> None:
        click.echo(plain(text), err=True)

    if not targets:
        reason = unusable(device or "cuda")
        if reason is not None:
            raise DeviceError(f"{reason}; for a GPU that is not here give its --compute-capability")
        engine = TensorRTEngine(net, source, [target], size, device or "cuda", precision, report=report)
        for note in engine.notes:
            report(note)
        report(f"the tensorrt engine is ready for {source} to {target} at {size[0]}x{size[1]} in {engine.precision}")
        return
    cache = PlanCache()
    height, width = padded_size(size[1], size[0], net.sizes)
    graphs = [Graph(net, (source, target), part, checked_precision(precision)) for part in parts_for(net)]
    # All refusals before the first plan.
    jobs = [Job(graph, height, width, Target(capability)) for capability in targets for graph in graphs]
    names = [job.facts.name for job in jobs]
    for job, name in zip(jobs, names, strict=True):
        plan = job.plan(cache, report)
        how = f"built in {plan.seconds:.1f} s" if plan.built else "there already"
        report(f"{name}: {_megabytes(len(plan.data))}, {how}")
    report("not run here: the engine compares a plan with the reference before its first use")


@command.command("list")
def list_() -> None:
    """List the plans that are kept."""
    import time

    from vidtrans.engines.plan_cache import PlanCache

    cache = PlanCache()
    entries = cache.entries()
    for entry in entries:
        facts = entry.facts
        gpu = facts.gpu or f"any GPU of compute capability {facts.compute_capability}"
        checked = "; ".join(f"{result} on {device}" for device, result in entry.checks.items()) or "not compared yet"
        click.echo(
            f"{plain(facts.name)}\n"
            f"  {plain(entry.about)}, {_megabytes(entry.bytes)}, made {_age(time.time() - entry.made)} ago\n"
            f"  {plain(f'for {gpu}, {facts.flavour} {facts.version}; {checked}')}"
        )
    click.echo(
        f"{len(entries)} plans, {_megabytes(sum(entry.bytes for entry in entries))}, in {cache.folder}", err=True
    )


@command.command("clear")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Remove all plans that are kept; the engine builds them again when it needs them."""
    from vidtrans.engines.plan_cache import PlanCache

    cache = PlanCache()
    if not yes:
        click.confirm(f"Remove {len(cache.entries())} plans from {cache.folder}?", abort=True, err=True)
    click.echo(f"{cache.clear()} bytes removed from {cache.folder}", err=True)


def _capability(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,2})\.([0-9])", text)
    if match is None:
        raise click.BadParameter(
            f"{text!r} is no compute capability; give one such as 8.9.", param_hint="--compute-capability"
        )
    return int(match[1]), int(match[2])


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"
