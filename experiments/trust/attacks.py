"""Attack softcue with what anyone may send, damage or kill, and count what held.

`python -m experiments.trust.attacks --count 1000 --seed 0` writes results.json and table.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort

from experiments.trust import processes, received
from softcue.errors import SoftcueError
from softcue.runs.atomic import write_atomic
from softcue.runs.provenance import hardware, versions
from tests.trust.fuzz import KINDS, Fuzz
from tests.trust.tiny_runs import TinyRuns

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How often one kind of attack was tried, and how it ended.

    `refused` in one sentence of ours, `harmless` where it was read as plain data or changed nothing; any
    other end is a defect, of which the first few are kept.
    """

    attack: str
    tried: int
    refused: int
    harmless: int
    defects: tuple[str, ...]
    seconds: float

    @property
    def held(self) -> int:
        """Attacks without a defect."""
        return self.refused + self.harmless


def tally(attack: str, tries: Iterator[Callable[[], object]]) -> Tally:
    """Make every try, and count how they end."""
    began, ends = time.perf_counter(), Counter[str]()
    defects: list[str] = []
    for one in tries:
        ends[end_of(one, defects)] += 1
    return _tally(attack, ends, defects, began)


def fuzzed(attack: str, fuzz: Fuzz, *, count: int, seed: int, runs: TinyRuns) -> Tally:
    """Draw and use `count` inputs of a kind."""
    began, ends, defects = time.perf_counter(), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        use = fuzz.prepare(Path(folder), runs)

        @hypothesis.seed(seed)
        @effort(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(drawn=fuzz.drawn)
        def try_one(drawn: object) -> None:
            ends[end_of(lambda: use(drawn), defects)] += 1

        try_one()
    return _tally(attack, ends, defects, began)


def end_of(one: Callable[[], object], defects: list[str]) -> str:
    """How a try ends."""
    try:
        one()
    except SoftcueError:
        return "refused"
    except Exception as error:  # noqa: BLE001 - what is counted here
        defects.append(f"{type(error).__name__}: {error}"[:300])
        return "defect"
    return "harmless"


def _tally(attack: str, ends: Counter[str], defects: list[str], began: float) -> Tally:
    return Tally(
        attack=attack,
        tried=ends.total(),
        refused=ends["refused"],
        harmless=ends["harmless"],
        defects=tuple(defects[:5]),
        seconds=round(time.perf_counter() - began, 1),
    )


def all_tallies(*, count: int, seed: int) -> Iterator[Tally]:
    """Every kind of attack, one after another."""
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTCUE_CACHE", str(Path(root) / "cache"))
        runs = TinyRuns(Path(root))
        for attack, tries in received.attacks(runs, Path(root), count=count, seed=seed):
            yield tally(attack, tries)
        for attack, fuzz in KINDS.items():
            yield fuzzed(attack, fuzz, count=count, seed=seed, runs=runs)
    for attack, tries in processes.attacks(count=count, seed=seed):
        yield tally(attack, tries)


def markdown(tallies: list[Tally]) -> str:
    """The table of the README."""
    lines = [
        "| attack | tried | held | refused in one sentence | read as plain data, or without effect |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.attack} | {one.tried:,} | {one.held:,} | {one.refused:,} | {one.harmless:,} |"
        for one in tallies
    ]
    tried, held = sum(one.tried for one in tallies), sum(one.held for one in tallies)
    return "\n".join([*lines, f"| **all** | **{tried:,}** | **{held:,}** | | |"]) + "\n"


def main() -> None:
    """Attack, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="tries of each kind that is drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    tallies = []
    for one in all_tallies(count=options.count, seed=options.seed):
        tallies.append(one)
        print(f"{one.attack}: {one.held:,} of {one.tried:,} held, {one.seconds} s", *one.defects, flush=True)
    content = {
        "count": options.count,
        "seed": options.seed,
        "cpu": hardware(threads=1, gpu=None).cpu,
        "versions": versions(),
        "attacks": [asdict(one) for one in tallies],
    }
    write_atomic(options.output / "results.json", json.dumps(content, indent=1) + "\n")
    write_atomic(options.output / "table.md", markdown(tallies))


if __name__ == "__main__":
    main()
