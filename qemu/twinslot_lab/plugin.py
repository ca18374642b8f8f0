"""The pytest plugin: options, what is told of a failed test, what the tests verify. The fixtures are in fixtures.py.

A project names it in its `conftest.py`: `pytest_plugins = ["twinslot_lab.plugin"]`, or on the command line with `-p`.
It imports nothing heavy until a test asks.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from twinslot_lab.matrix import reach

pytest.register_assert_rewrite("twinslot_lab.fixtures")  # pytest warns of a plugin that was imported without
reach.install()  # before whatever has marks is imported

from twinslot_lab.fixtures import BoardFactory, BoardWatch  # noqa: E402 - not before the lines above
from twinslot_lab.matrix import collect  # noqa: E402

__all__ = ["BoardFactory", "board_name"]

pytest_plugins = ["twinslot_lab.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which board, and which seed."""
    group = parser.getgroup("twinslot")
    about = "the board under test: a name in qemu/boards, or the path of a board's TOML file"
    group.addoption("--board", metavar="NAME", help=about)
    group.addoption("--power-seed", type=int, metavar="N", help="repeat the drawn moments of a run that failed")
    parser.addini("twinslot_board", about)
    collect.add_options(parser, group)


def pytest_configure(config: pytest.Config) -> None:
    """Gather what the tests verify."""
    config.pluginmanager.register(collect.Collector(config), "twinslot-matrix")


def board_name(config: pytest.Config) -> str:
    """The option, else TWINSLOT_BOARD, else the ini file, else virt-arm64."""
    chosen = config.getoption("--board") or os.environ.get("TWINSLOT_BOARD") or config.getini("twinslot_board")
    return str(chosen or "virt-arm64")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of a failed test keep the evidence while the board still answers, and name it in the report."""
    report = yield
    if report.failed:
        BoardWatch.of(item).failed(report)
    return report
