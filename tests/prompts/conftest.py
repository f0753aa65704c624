"""One tiny model for every file that builds prompts for it."""

from __future__ import annotations

import pytest

from softcue.backbone.stream_lm import StreamLM
from tests.tiny import tiny_lm


@pytest.fixture(scope="session")
def llama() -> StreamLM:
    return tiny_lm("llama")
