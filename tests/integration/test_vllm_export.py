"""softcue-export to=vllm: the code of its README makes the embeddings of rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import NO_CHOICE
from softcue.errors import ConfigError
from softcue.export.adapter import load_all
from softcue.export.vllm import vllm_files
from softcue.formats.folder import write_folder
from softcue.trained import TrainedPrompt, load
from tests.cases import slow_but
from tests.integration.conftest import CACHE, Quickstart
from tests.running import train_one
from tests.tiny import batch_of

TWEET = "@united my bag is lost again"
CASES: dict[str, list[str]] = {
    "a prefix": ["prompt=prompt_tuning"],
    "between words": ["prompt=p_tuning_infix"],
    "behind the text": ["prompt=prompt_tuning_suffix"],
    "texts, in a chat": ["data=airline_summaries", "backbone.chat=true"],
}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))


def code_for_vllm(folder: Path) -> str:
    """The README's code, up to the first line that needs vLLM."""
    fences = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    (code,) = [fence for fence in fences if "prompt_embeds" in fence]
    own, needs_vllm, _ = cast(str, code).partition("from vllm import")
    assert needs_vllm
    return own.replace('"Tweet text": "..."', f'"Tweet text": "{TWEET}"')


def next_logits(lm: Backbone, prompt: TrainedPrompt) -> Tensor:
    ids = prompt.encoder.encode_row({"Tweet text": TWEET}).ids
    with torch.no_grad():
        begun = lm.continuation(prompt.bank, batch_of([ids], NO_CHOICE), max_new_tokens=1)
    return begun.first_logits_NV[0]


@pytest.mark.parametrize("case", slow_but(list(CASES)[:1], CASES))
def test_the_exported_embeddings_give_the_prompts_logits(
    quickstart: Quickstart, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_one(quickstart("debug=fast", *CASES[case])).path
    write_folder(tmp_path / "served", vllm_files(load_all(str(run), task=None), name="served"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code_for_vllm(tmp_path / "served"), names)
    with torch.no_grad():
        theirs = cast(nn.Module, names["model"])(inputs_embeds=names["embeds"][None]).logits[0, -1]
    prompt = load(tmp_path / "served")
    torch.testing.assert_close(theirs, next_logits(prompt.lm, prompt), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["prefix_tuning", "hard_prompt"])
def test_prompts_that_are_no_embeddings_are_refused(quickstart: Quickstart, method: str) -> None:
    run = train_one(quickstart("debug=fast", f"prompt={method}")).path
    with pytest.raises(ConfigError, match=r"is not the embeddings of one prompt, which vLLM's prompt_embeds"):
        vllm_files(load_all(str(run), task=None), name="served")
