"""The images under test, each built once.

`IMAGE_TESTS` decides: `try` skips where there is no engine, `required` fails there; without it
these tests are skipped, since they take minutes. `IMAGE_CPU` and `IMAGE_GPU` name images that are
there already, built with the arguments of `ARGUMENTS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest
from tests.image.engine import Engine, Unavailable, find

ARGUMENTS = {"MODEL_LICENCE": "MIT", "VERSION": "9.8.7", "REVISION": "0123456789"}
MEASURED = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/image/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(1200))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(MEASURED, []):
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes lines that are to stand at the end of the run, passed or not."""
    return request.config.stash.setdefault(MEASURED, []).append


@pytest.fixture(scope="session")
def engine() -> Engine:
    wanted = os.environ.get("IMAGE_TESTS", "")
    if not wanted:
        pytest.skip("`make test-image` runs these")
    try:
        return find()
    except Unavailable as error:
        _do_without(wanted, str(error))


@pytest.fixture(scope="session")
def cpu(engine: Engine) -> str:
    """The CPU image with `base` in int8."""
    return _image(engine, "cpu")


@pytest.fixture(scope="session")
def gpu(engine: Engine) -> str:
    """The GPU image with `base` in float16."""
    return _image(engine, "gpu")


@pytest.fixture(params=["cpu", "gpu"])
def image(request: pytest.FixtureRequest) -> str:
    """Each of the two."""
    found: str = request.getfixturevalue(request.param)
    return found


def _image(engine: Engine, target: str) -> str:
    given = os.environ.get(f"IMAGE_{target.upper()}")
    return given or engine.build(target, f"localhost/sotto-test:{target}", **ARGUMENTS)


def _do_without(wanted: str, reason: str) -> NoReturn:
    if wanted == "required":
        pytest.fail(f"IMAGE_TESTS=required, but {reason}", pytrace=False)
    pytest.skip(reason)
