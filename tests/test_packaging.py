"""What a clean clone promises: the README's commands, the Makefile's targets, the two links, one version."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest

import vidtrans
from vidtrans import errors

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

FIRST = "pip install -e . && vidtrans upsample examples/street.mp4 --factor 8 --to segmentation"
SECOND = "pip install -e '.[test]' && pytest"


@pytest.mark.parametrize("line", [FIRST, SECOND])
def test_the_two_commands_stand_alone_in_the_readme(line: str) -> None:
    assert f"\n```sh\n{line}\n```\n" in README


def test_the_check_finds_exactly_these_two_commands() -> None:
    assert [line for line in README.splitlines() if line.startswith("pip install -e")] == [FIRST, SECOND]


def test_the_check_is_a_program() -> None:
    check = ROOT / ".ci" / "run"
    assert os.access(check, os.X_OK)
    assert check.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")


def test_the_readme_lists_the_exit_codes() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    kinds = [errors.VidtransError, *errors.VidtransError.__subclasses__()]
    assert listed == {0, 130} | {kind.exit_code for kind in kinds}


def test_the_readme_lists_options_that_exist() -> None:
    from vidtrans.cli.upsample import command

    table = README.split("## Options of `vidtrans upsample`")[1].split("\n## ")[0]
    listed = set(re.findall(r"`(--?[a-z][a-z-]*)", table))
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert "--factor" in listed
    assert listed <= known


@pytest.mark.parametrize("target", ["lint", "types", "test", "demo", "strip", "example", "examples/street.mp4"])
def test_the_makefile_has_the_target(target: str) -> None:
    rules = [line.split(":")[0] for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()]
    assert target in rules


@pytest.mark.parametrize("name", ["engines", "train"])
def test_the_links_are_links(name: str) -> None:
    link = ROOT / "vidtrans" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name


def test_pyproject_says_how_to_build() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["build-system"]["build-backend"] == "setuptools.build_meta"


def test_the_version_is_the_same_everywhere() -> None:
    assert importlib.metadata.version("vidtrans") == vidtrans.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "\n## Unreleased\n" in changelog
