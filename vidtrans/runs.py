"""What a call or a command asks for: a run for each input, one after the other, and one result of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from vidtrans.checkpoint import load_model
from vidtrans.errors import UsageError, VidtransError, nearest_names
from vidtrans.options import TranslateOptions, UpsampleOptions, named_as_translations
from vidtrans.pipeline import run
from vidtrans.summary import Summary
from vidtrans.targets import for_each, target_names
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.input_form import spoken
from vidtrans.video.local_file import Source, source_named
from vidtrans.video.names import is_pipe

Input: TypeAlias = str | Path
Status: TypeAlias = Literal["done", "failed", "interrupted", "not started"]


@dataclass
class Outcome:
    """What became of one input.

    Attributes:
        options: of its run.
        summary: as far as the run came.
        status: "done", "failed", "interrupted" or "not started".
        error: of a run that failed.
    """

    options: UpsampleOptions
    summary: Summary
    status: Status = "not started"
    error: Exception | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        told = {} if self.error is None else {"error": str(self.error), "exit_code": code_of(self.error)}
        return {"input": str(self.options.input), "status": self.status, **told, **self.summary.to_json()}


@dataclass
class Batch:
    """What became of several inputs, in their order."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    @property
    def exit_code(self) -> int:
        """0: all is done; else that of the first input that failed; 130: interrupted."""
        if any(outcome.status == "interrupted" for outcome in self.outcomes):
            return 130
        return next((code_of(one.error) for one in self.failed if one.error is not None), 0)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {"exit_code": self.exit_code, "inputs": [outcome.to_json() for outcome in self.outcomes]}


class SomeFailedError(VidtransError):
    """Of several inputs some could not be done; the others are.

    Attributes:
        batch: what became of each.
    """

    def __init__(self, batch: Batch) -> None:
        failed = batch.failed
        super().__init__(f"{len(failed)} of {len(batch.outcomes)} inputs failed, the first: {failed[0].error}")
        self.batch = batch
        self.exit_code = batch.exit_code


def code_of(error: BaseException) -> int:
    """The exit code of an error."""
    return error.exit_code if isinstance(error, VidtransError) else 1


@overload
def upsample(input: Input, to: str | Sequence[str], **options: Any) -> Summary: ...


@overload
def upsample(input: Sequence[Input], to: str | Sequence[str], **options: Any) -> Batch: ...


def upsample(input: Input | Sequence[Input], to: str | Sequence[str], **options: Any) -> Summary | Batch:
    """Raise a video's frame rate and translate it: the Python name of `vidtrans upsample`.

    Args:
        input: the video to read, or several, of which each is done whatever becomes of the others.
        to: the target domain, or several, which are made from one pass.
        options: the other fields of options.UpsampleOptions (factor, fps, slowmo, start, end, tail, from_, output,
            output_to, out_dir, out_format, out_format_to, mux, labels, overwrite, model, engine, device, precision,
            size, motion, detail, detail_to, cuts, cut_threshold, dedup, dedup_tolerance, in_format, size_in,
            pix_fmt_in, rate_in, expect_frames, color_matrix, color_range, color_primaries, color_trc, deinterlace,
            protocols, max_pixels, strict) and of video.encoder.EncoderOptions (codec, crf, preset, pix_fmt, threads,
            encode); with _to behind them (codec_to ...) those of the translations alone, of all or as {domain: value}.

    Returns:
        What was done; of several inputs, what became of each.

    Raises:
        VidtransError: one of its kinds, see errors.py; no output is left under its final name. Of several inputs
            SomeFailedError, once all have had their turn.
    """
    if isinstance(input, str | Path):
        return run(parsed_options(input, to, options))
    return _all_done(parsed_batch(input, to, options))


@overload
def translate(input: Input, to: str | Sequence[str], **options: Any) -> Summary: ...


@overload
def translate(input: Sequence[Input], to: str | Sequence[str], **options: Any) -> Batch: ...


def translate(input: Input | Sequence[Input], to: str | Sequence[str], **options: Any) -> Summary | Batch:
    """Translate a video frame by frame, with nothing in between: the Python name of `vidtrans translate`.

    Args:
        input, to: as of `upsample`.
        options: those of `upsample` but factor, fps, slowmo, tail, motion and detail. What is written are the
            translations alone, so `output` and `out_format` are theirs, for all or as {domain: value}, and there is no
            output_to and out_format_to; codec and its like are of all, codec_to of some as {domain: value}.

    Returns, raises: as `upsample`.
    """
    if isinstance(input, str | Path):
        return run(parsed_options(input, to, options, TranslateOptions))
    return _all_done(parsed_batch(input, to, options, TranslateOptions))


def _all_done(runs: Sequence[UpsampleOptions]) -> Batch:
    batch = run_all(runs)
    if batch.failed:
        raise SomeFailedError(batch) from batch.failed[0].error
    return batch


def run_all(
    runs: Sequence[UpsampleOptions],
    *,
    announce: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int | None], None] = lambda done, expected: None,
    started: Callable[[Outcome], None] = lambda outcome: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
    batch: Batch | None = None,
) -> Batch:
    """One run after the other, each whatever became of those before.

    announce, progress: as of pipeline.run. started, ended: get every input before and after its run. batch: is filled,
    for callers who want to know of it when the user interrupts.

    Raises:
        UsageError: there is no such model. KeyboardInterrupt: the inputs that follow are not started.
    """
    batch = batch or Batch()
    batch.outcomes = [Outcome(options, Summary(options.output_paths)) for options in runs]
    model = load_model(runs[0].model)
    for outcome in batch.outcomes:
        started(outcome)
        try:
            outcome.summary = run(
                outcome.options, model=model, announce=announce, progress=progress, summary=outcome.summary
            )
            outcome.status = "done"
        except Exception as error:  # whatever it is, it is this input's alone
            outcome.status, outcome.error = "failed", error
        except BaseException:
            outcome.status = "interrupted"
            raise
        ended(outcome)
    return batch


def parsed_options(
    input: Input, to: str | Sequence[str], options: Mapping[str, Any], job: type[UpsampleOptions] = UpsampleOptions
) -> UpsampleOptions:
    """The options of a run, from their names in Python.

    job: a class of options.JOBS.

    Raises:
        UsageError: there is no such option, or it does not fit.
    """
    (parsed,) = parsed_batch([input], to, options, job)
    return parsed


def parsed_batch(
    inputs: Sequence[Input | Source],
    to: str | Sequence[str],
    options: Mapping[str, Any],
    job: type[UpsampleOptions] = UpsampleOptions,
) -> list[UpsampleOptions]:
    """The same of several inputs, whose outputs are apart.

    Raises:
        UsageError: as `parsed_options`; there is no input; outputs of two inputs would have one name.
    """
    if not inputs:
        raise UsageError("there is no input; name at least one")
    given, targets = dict(options), target_names(to)
    known = option_names(job)
    for name in given:
        if name not in known:
            raise UsageError(f"{job.command} has no option {name!r}; {nearest_names(name, known)}")
    if job is TranslateOptions:
        given = named_as_translations(given)
    names = [f.name for f in fields(EncoderOptions)]
    encoder = EncoderOptions(**{name: given.pop(name) for name in names if name in given})
    wishes = {name: for_each(given.pop(f"{name}_to", None), targets, f"--{name}-to") for name in names}
    encoder_to = {
        target: encoder.changed(**{name: said.get(target) for name, said in wishes.items()}) for target in targets
    }
    if len(inputs) > 1:
        for name, option in (("output", "-o"), ("output_to", job.out_to)):
            if given.get(name):
                raise UsageError(
                    f"{option} names one output, and there are {len(inputs)} inputs; --out-dir names a folder"
                )
    runs = [job(input=source_named(one), to=targets, encoder=encoder, encoder_to=encoder_to, **given) for one in inputs]
    _check_apart(runs)
    return runs


def option_names(job: type[UpsampleOptions]) -> list[str]:
    """What may be given to `upsample` or `translate`, by name."""
    settled = ["input", "to", "encoder", "encoder_to"]
    if job is TranslateOptions:
        settled += ["output_to", "out_format_to"]  # see named_as_translations
    encoder = [f.name for f in fields(EncoderOptions)]
    own = [f.name for f in fields(job) if f.init and f.name not in settled]
    return [*own, *encoder, *(f"{name}_to" for name in encoder)]


def _check_apart(runs: Sequence[UpsampleOptions]) -> None:
    owners: dict[Path, Source] = {}
    for options in runs:
        for path in {path.absolute(): path for path in options.output_paths if not is_pipe(path)}.values():
            other = owners.setdefault(path.absolute(), options.input)
            if other is not options.input:
                first, second = (spoken(one) if isinstance(one, Path) else str(one) for one in (other, options.input))
                raise UsageError(
                    f"{first} and {second} would both give {path}; do them in two runs, with names of their own"
                )
