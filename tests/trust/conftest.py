"""The runs that others are to have sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trust.tiny_runs import TinyRuns


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRuns]:
    """The folder of a method's run, trained once for the session."""
    root = tmp_path_factory.mktemp("trust")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTCUE_CACHE", str(root / "cache"))
        yield TinyRuns(root)
