"""Where frozen models come from, and the errors when they cannot be loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from softcue.backbone import embedded, load
from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.backbone.load import from_hub, from_path, resolve_dtype
from softcue.errors import BackboneError
from tests.tiny import tiny_model, tiny_tokenizer


def test_a_local_folder_loads_frozen_and_in_eval_mode(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    lm = from_path(
        path=str(tmp_path),
        name="mine",
        dtype="bfloat16",
        engine="auto",
        gradient_checkpointing=False,
        cache_dir=str(tmp_path),
    )
    assert lm.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert not any(module.training for module in lm.model.modules())
    assert lm.spec.tokenize("w3 w4") == [3, 4]


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"backbone\.path=.*nowhere does not exist; give a model folder"):
        from_path(
            path=str(tmp_path / "nowhere"),
            name="x",
            dtype="float32",
            engine="auto",
            gradient_checkpointing=False,
            cache_dir=str(tmp_path),
        )


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"has no config\.json; give a Hugging Face model folder"):
        from_path(
            path=str(tmp_path),
            name="x",
            dtype="float32",
            engine="auto",
            gradient_checkpointing=False,
            cache_dir=str(tmp_path),
        )


def test_a_corrupt_gguf_file_is_named_and_leaves_no_partial_model(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\x00" * 1000)
    with pytest.raises(
        BackboneError, match=r"broken\.gguf cannot be read as a GGUF model .*; install or download"
    ):
        from_path(
            path=str(broken),
            name="x",
            dtype="float32",
            engine="auto",
            gradient_checkpointing=False,
            cache_dir=str(tmp_path / "cache"),
        )
    assert [path for path in (tmp_path / "cache" / "backbones").iterdir() if path.suffix != ".lock"] == []


def test_a_truncated_copy_of_the_embedded_model_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(embedded_gguf().read_bytes()[: 1 << 21])
    with pytest.raises(BackboneError, match=r"short\.gguf cannot be read as a GGUF model"):
        dequantised(short, tmp_path / "cache")


def test_an_unreachable_hub_is_one_sentence_that_names_the_embedded_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(load, "_in_hub_cache", lambda repo, revision: False)
    with pytest.raises(BackboneError) as raised:
        from_hub(
            repo="bigscience/bloomz-560m",
            name="bloomz_560m",
            dtype="float32",
            engine="auto",
            gradient_checkpointing=False,
            revision="main",
        )
    message = str(raised.value)
    assert "cannot be reached for bigscience/bloomz-560m" in message
    assert "backbone=smollm2_135m data=airline_complaints" in message
    assert len(message.splitlines()) == 1


def test_dtype_is_one_of_three_names() -> None:
    assert resolve_dtype("float32") == torch.float32
    assert resolve_dtype("auto") in (torch.float32, torch.bfloat16)
    with pytest.raises(BackboneError, match=r"backbone\.dtype=float8; choose float32, bfloat16 or auto"):
        resolve_dtype("float8")


def test_a_gguf_file_that_differs_in_its_last_weight_alone_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_convert", lambda gguf, target: target.mkdir())
    content = bytearray(embedded_gguf().read_bytes())
    one = tmp_path / "model.gguf"
    one.write_bytes(content)
    first = dequantised(one, tmp_path / "cache")
    content[-1] ^= 1
    one.write_bytes(content)
    assert dequantised(one, tmp_path / "cache") != first


@pytest.mark.slow
def test_two_processes_that_start_at_once_dequantise_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from softcue.backbone.embedded import *;"
        "print(dequantised(embedded_gguf(), Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    (folder,) = folders
    assert sorted(path.name for path in Path(folder).parent.iterdir() if path.is_dir()) == [Path(folder).name]
