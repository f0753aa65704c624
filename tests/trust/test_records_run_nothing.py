"""A received folder runs no code: every place of a record is tried, through every command that reads one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hydra.utils
import pytest
from omegaconf import OmegaConf

from softcue.errors import SoftcueError
from softcue.trained import load
from tests.cases import slow_but
from tests.trust.commands import VALUE, canary, everything, record_of, send
from tests.trust.payloads import additions, attempts, payloads
from tests.trust.tiny_runs import METHODS, TinyRuns


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in which whatever a payload runs leaves something."""
    with canary(tmp_path) as folder:
        yield folder


@pytest.fixture
def copied(runs: TinyRuns, tmp_path: Path) -> Callable[[str], Path]:
    """A run's folder as another person would send it."""

    def copy(method: str) -> Path:
        return shutil.copytree(runs(method), tmp_path / method)

    return copy


FIRING = (
    "call",
    "call with arguments",
    "evaluated text",
    "our module",
    "import",
    "nested call",
    "created",
    "resolver",
)


@pytest.mark.parametrize("name", FIRING)
def test_the_payloads_work_where_a_config_is_instantiated(marks: Path, name: str) -> None:
    settings = OmegaConf.create({"node": payloads(marks)[name]})
    OmegaConf.resolve(settings)
    hydra.utils.instantiate(settings)
    assert list(marks.iterdir())


def try_all(folder: Path, marks: Path, use: Callable[[Path], object], **which: int) -> str:
    """Use the folder with each of `attempts`: only errors of ours, and nothing is run."""
    count = accepted = 0
    values, keys = list(payloads(marks).values()), list(additions(marks).values())
    for attempt in attempts(record_of(folder), values, keys, **which):
        send(folder, attempt)
        count += 1
        # Any other error fails the test.
        with suppress(SoftcueError):
            use(folder)
            accepted += 1
    assert list(marks.iterdir()) == []
    return f"{count} records, {accepted} accepted"


ONE_OF_A_KIND = ("prompt_tuning", "multitask_target", "saved")


@pytest.mark.parametrize("method", slow_but(ONE_OF_A_KIND, METHODS))
def test_a_payload_at_any_place_of_a_record_is_never_run_by_load(
    copied: Callable[[str], Path], marks: Path, method: str
) -> None:
    number = list(METHODS).index(method)
    print(method, try_all(copied(method), marks, load, every=16, offset=number))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_payload_at_any_place_of_a_record_is_never_run_by_load(
    copied: Callable[[str], Path], marks: Path, method: str
) -> None:
    print(method, try_all(copied(method), marks, load, every=1, offset=0))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_payload_at_any_place_is_run_by_no_command_and_no_secret_is_shown(
    copied: Callable[[str], Path], marks: Path, method: str
) -> None:
    shown: list[str] = []
    folder = copied(method)
    assert "RunError" not in everything(folder)
    number = list(METHODS).index(method)
    print(method, try_all(folder, marks, lambda at: shown.append(everything(at)), every=61, offset=number))
    assert VALUE not in "".join(shown)
