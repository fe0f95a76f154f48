"""The pytest plugin of MiniFlow: fixtures for tests of packs, and their checks as tests.

pytest imports this module at its start, wherever mfcore is installed. So it stands beside mfcore
and not within, and imports nothing of it, nor NumPy, until a fixture or an option asks for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np

    from mfcore import Registry

# Options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``--mf-pack``, ``--mf-seed`` and the setting ``mf_packs``."""
    group = parser.getgroup("mfcore", "packs of MiniFlow")
    group.addoption(
        "--mf-pack",
        action="extend",
        type=_asked_for,
        default=[],
        metavar="PACK",
        help="check all that a pack provides, each check a test; names between commas, repeatable",
    )
    group.addoption(
        "--mf-seed",
        type=int,
        default=0,
        metavar="N",
        help="give the fixture mf_rng other random numbers (default: 0)",
    )
    parser.addini(
        "mf_packs",
        type="args",
        default=[],
        help="as --mf-pack, unless single files or tests are asked for",
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is used of the plugin."""
    names, seed = _packs_to_check(config), config.getoption("mf_seed")
    return [
        *([f"conformance: {', '.join(names)}"] if names else []),
        *([f"mf_rng: --mf-seed={seed}"] if seed else []),
    ]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Add the checks of packs to the session, if any are asked for."""
    if names := _packs_to_check(session.config):
        from mfcore_pytest.conformance import Conformance

        conformance = Conformance(session.config, _installed_packs(strict=False), names)
        session.config.pluginmanager.register(conformance, "mfcore_conformance")


def _packs_to_check(config: pytest.Config) -> list[str]:
    asked: list[str] = config.getoption("mf_pack")
    if asked:
        return asked
    usual = [name for text in config.getini("mf_packs") for name in _names(text)]
    return usual if any(_includes_checks(config, argument) for argument in config.args) else []


def _includes_checks(config: pytest.Config, argument: str) -> bool:
    """Whether an argument is a folder, which has all tests, or may be the id of a check."""
    path, _, check = argument.partition("::")
    found = config.invocation_params.dir / path
    return found.is_dir() or bool(check and not found.exists())


def _asked_for(text: str) -> list[str]:
    if names := _names(text):
        return names
    raise argparse.ArgumentTypeError("it names no pack")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


# Fixtures


@pytest.fixture
def mf_registry() -> Iterator[Registry]:
    """A new registry of all installed packs, in use while the test runs.

    Nothing is loaded yet, and nothing that others registered is there. The environment and the
    project's file choose and disable no pack. A pack that cannot be loaded raises ``PackError``.
    """
    from mfcore import registry

    with registry.using(_installed_packs(strict=True)) as packs:
        yield packs


@pytest.fixture
def mf_rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of the test's own: the same in every run, others by ``--mf-seed``."""
    import numpy as np

    item, seed = request.node, request.config.getoption("mf_seed")
    # Not item.nodeid: with pytest 8, pytest-xdist can write the name of a group into it.
    identity = f"{seed} {item.parent.nodeid}::{item.name}"
    number = int.from_bytes(blake2b(identity.encode(), digest_size=8).digest(), "little")
    told = f"mf_rng = numpy.random.default_rng({number})  # --mf-seed={seed}"
    item.add_report_section("setup", "mf_rng", told)
    return np.random.default_rng(number)


def _installed_packs(*, strict: bool) -> Registry:
    """Return a registry of all installed packs, whatever environment and project file say."""
    from mfcore import Registry
    from mfcore.settings import Choice

    packs = Registry(autoload=True, disabled=(), strict=strict)
    packs.chosen = Choice((), "the pytest plugin", every=True)
    return packs
