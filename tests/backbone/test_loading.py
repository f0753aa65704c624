"""Loading frozen models, and the messages where that fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from safetensors import SafetensorError

from softcue.backbone import embedded
from softcue.backbone.base import Backbone
from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.backbone.kind import num_layers
from softcue.backbone.load import Dtype, from_hub, from_path, resolve_dtype
from softcue.errors import BackboneError
from softcue.hub import HubRepo
from tests.tiny import tiny_model, tiny_tokenizer


def load_folder(path: Path, *, dtype: Dtype = "float32") -> Backbone:
    return from_path(
        path=str(path),
        name="mine",
        dtype=dtype,
        engine="auto",
        gradient_checkpointing=False,
        cache_dir=str(path.parent / "cache"),
    )


def test_a_local_folder_loads_frozen_and_in_eval_mode(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    lm = load_folder(tmp_path, dtype="bfloat16")
    assert lm.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert not any(module.training for module in lm.model.modules())
    assert lm.spec.tokenize("w3 w4") == [3, 4]


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"backbone\.path=.*nowhere does not exist; give a model folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(BackboneError, match=r"backbone\.path=~nobody/at/all does not exist"):
        load_folder(Path("~nobody/at/all"))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"has no config\.json; give a Hugging Face model folder"):
        load_folder(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face folder, and beside its files a module that touches `ran` when it is imported."""
    tiny_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    return tmp_path


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


CODE: dict[str, tuple[str, dict[str, Any]]] = {
    "a config class": ("config.json", {"auto_map": {"AutoConfig": "evil.Config"}}),
    "a model class": ("config.json", {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}),
    "a tokenizer class": (
        "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": [None, "evil.Tokenizer"]}},
    ),
    "attention from the hub": ("config.json", {"attn_implementation": "someone/kernels"}),
}


@pytest.mark.parametrize("code", CODE)
def test_code_that_a_model_names_is_not_run(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    file, names = CODE[code]
    change(folder / file, **names)
    assert load_folder(folder).model.config._attn_implementation != "someone/kernels"
    assert not (folder / "ran").exists()


def test_a_model_that_needs_code_of_its_own_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    change(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(BackboneError, match="cannot be loaded as a language model"):
        load_folder(folder)
    assert not (folder / "ran").exists()


class Payload:
    """Pickled, it touches a file on reading."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickled_weights_are_read_if_they_are_tensors_and_refused_if_not(folder: Path) -> None:
    state = dict(tiny_model("llama").state_dict())
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert load_folder(folder).model.num_parameters() == tiny_model("llama").num_parameters()
    torch.save({**state, "more": Payload(folder / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="cannot be loaded as a language model"):
        load_folder(folder)
    assert not (folder / "ran").exists()


def test_an_adapter_beside_the_weights_is_refused(folder: Path) -> None:
    # PEFT imports the module that megatron_core names.
    adapter = {"peft_type": "LORA", "megatron_config": {"x": 1}, "megatron_core": "evil"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(BackboneError, match=r"holds a PEFT adapter .* merged into its weights"):
        load_folder(folder)


def test_what_is_beside_a_gguf_file_is_not_read(tmp_path: Path) -> None:
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF" + b"\x00" * 1000)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/another/model"}')
    with pytest.raises(BackboneError) as raised:
        load_folder(gguf)
    assert "another" not in str(raised.value.__cause__)


def test_a_damaged_folder_is_one_sentence(folder: Path) -> None:
    for file, content in (("model.safetensors", b"half"), ("tokenizer.json", b"{}"), ("config.json", b"[")):
        before = (folder / file).read_bytes()
        (folder / file).write_bytes(content)
        with pytest.raises(BackboneError, match="cannot be loaded as a language model") as raised:
            load_folder(folder)
        assert len(str(raised.value).splitlines()) == 1
        (folder / file).write_bytes(before)


def test_a_folder_is_loaded_once_until_its_content_changes(folder: Path) -> None:
    first = load_folder(folder)
    assert load_folder(folder) is first
    change(folder / "config.json", note="another")
    assert load_folder(folder) is not first


def test_a_name_that_no_repository_has_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"\.\./\.\./etc is no repository's name"):
        from_hub(
            repo="../../etc",
            name="x",
            dtype="float32",
            engine="auto",
            gradient_checkpointing=False,
            revision="main",
        )


def test_a_corrupt_gguf_file_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\x00" * 1000)
    with pytest.raises(
        BackboneError, match=r"broken\.gguf cannot be read as a GGUF model .*; install or download"
    ):
        load_folder(broken)
    assert [path for path in (tmp_path / "cache" / "backbones").iterdir() if path.suffix != ".lock"] == []


def test_what_an_interrupted_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\x00" * 1000)
    with pytest.raises(BackboneError):
        load_folder(broken)
    (lock,) = (tmp_path / "cache" / "backbones").iterdir()
    leftover = lock.with_name(f".{lock.stem}-0a1b2c")
    (leftover / "made").mkdir(parents=True)
    with pytest.raises(BackboneError):
        load_folder(broken)
    assert not leftover.exists()


FULL = {
    "the system": OSError(28, "No space left on device"),
    "safetensors": SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    ),
}


@pytest.mark.parametrize("full", FULL)
def test_a_full_disk_while_dequantising_is_named_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FULL[full]

    gguf, cache = tmp_path / "model.gguf", tmp_path / "cache"
    gguf.write_bytes(b"GGUF")
    monkeypatch.setattr("softcue.backbone.embedded.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(BackboneError, match=r"cannot be kept in .* \(.*No space left .* SOFTCUE_CACHE"):
        dequantised(gguf, cache)
    assert [path for path in (cache / "backbones").iterdir() if path.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_written_is_named_unless_the_model_is_in_it(tmp_path: Path) -> None:
    gguf, cache = tmp_path / "model.gguf", tmp_path / "cache"
    gguf.write_bytes(b"GGUF")
    cache.touch()
    with pytest.raises(BackboneError, match=rf"cannot be kept in {cache}/backbones \(Not a directory\)"):
        dequantised(gguf, cache)


@pytest.mark.slow
def test_the_embedded_model_has_as_many_layers_as_checks_believe() -> None:
    field = GGUFReader(embedded_gguf()).fields["llama.block_count"]
    assert num_layers({"name": "smollm2_135m"}) == field.contents()


def test_a_truncated_copy_of_the_embedded_model_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(embedded_gguf().read_bytes()[: 1 << 21])
    with pytest.raises(BackboneError, match=r"short\.gguf cannot be read as a GGUF model"):
        dequantised(short, tmp_path / "cache")


def test_an_unreachable_hub_is_one_sentence_that_names_the_embedded_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(HubRepo, "cached", lambda self, file: None)
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
    assert "is not asked for bigscience/bloomz-560m, as HF_HUB_OFFLINE is set" in message
    assert "backbone=smollm2_135m data=airline_complaints" in message
    assert len(message.splitlines()) == 1


def test_dtype_is_a_choice_of_three() -> None:
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
