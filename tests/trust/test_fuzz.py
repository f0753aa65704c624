"""Of whatever is drawn the only exceptions are softcue's own, and nothing wrong is accepted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from softcue.errors import SoftcueError
from tests.trust.fuzz import KINDS
from tests.trust.tiny_runs import TinyRuns


@pytest.mark.parametrize("kind", KINDS)
def test_anything_is_used_or_refused_by_an_error_of_ours(kind: str, runs: TinyRuns, tmp_path: Path) -> None:
    fuzz = KINDS[kind]
    use = fuzz.prepare(tmp_path, runs)

    @settings(max_examples=25, deadline=None)
    @given(drawn=fuzz.drawn)
    def try_one(drawn: Any) -> None:
        with suppress(SoftcueError):
            use(drawn)

    try_one()
