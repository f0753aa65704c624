"""A finished prompt as it is: nothing is learnt, a run scores it and leaves its record."""

from __future__ import annotations

from pathlib import Path

from torch import Generator

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.errors import ConfigError, RunError
from softcue.formats.peft import CONFIG
from softcue.formats.peft_reader import read_adapter
from softcue.formats.prompt_file import load_bank


class SavedPrompt(SoftPrompt):
    """The prompt of a finished run or of a PEFT adapter, as buffers: it has no parameters.

    Raises:
        ConfigError: it was made for another model or another layout.
        RunError: there is no prompt at `path`.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        path: str,
        member: int | None,
        layout: str,
    ) -> None:
        super().__init__()
        bank, own_layout = read_prompt(path, spec=spec, member=member, key="prompt")
        (length,) = bank.num_virtual_tokens
        if length != num_virtual_tokens or own_layout not in (layout, None):
            wanted = own_layout or f"[soft:{length}]{{input}}"
            raise ConfigError(
                f"prompt.path={path} has {length} virtual tokens, made for layout {wanted!r}, and "
                f"prompt.layout is {layout!r}; set prompt.layout='\"{wanted}\"', or train on from it in your "
                "layout with prompt/initialiser=saved."
            )
        self.in_layers = bank.keys_TLHPK is not None
        for name, tensor in bank.tensors().items():
            self.register_buffer(name, tensor)

    def forward(self) -> PromptBank:
        return PromptBank(**dict(self.named_buffers()), vote=None)


def read_prompt(
    path: str, *, spec: BackboneSpec, member: int | None, key: str
) -> tuple[PromptBank, str | None]:
    """One prompt that fits the model, and the layout it was made for if that is known.

    `path` is a run's folder, a prompt.safetensors or a PEFT adapter's folder; `member` chooses among
    the prompts of an ensemble or of a multitask adapter. `key` is where both stand in the config.
    """
    bank, known = _read(Path(path), key=key)
    if (member is None and bank.num_prompts > 1) or not 0 <= (member or 0) < bank.num_prompts:
        raise ConfigError(
            f"{key}.path={path} holds {bank.num_prompts} prompts and {key}.member is {member}; choose one "
            f"from 0 to {bank.num_prompts - 1}."
        )
    theirs, ours = _sizes(bank), _sizes_of_model(bank, spec)
    if known.get("backbone", spec.name) != spec.name or theirs != ours:
        made_for = known.get("backbone") or known.get("base_model")
        raise ConfigError(
            f"{key}.path={path} was made for {made_for} ({theirs}), and this run has {spec.name} ({ours}); "
            "a prompt fits its own model alone: choose that backbone."
        )
    return bank.member(member or 0), known.get("layout")


def _read(place: Path, *, key: str) -> tuple[PromptBank, dict[str, str]]:
    if (place / "prompt.safetensors").is_file():
        return load_bank(place / "prompt.safetensors")
    if (place / CONFIG).is_file():
        adapter = read_adapter(place)
        return adapter.bank, {"base_model": str(adapter.config.base_model_name_or_path)}
    if place.is_file():
        return load_bank(place)
    raise RunError(
        f"{key}.path={place} holds no prompt; give the folder of a complete run, a prompt.safetensors or the "
        "folder of a PEFT adapter."
    )


def _sizes(bank: PromptBank) -> dict[str, int]:
    if bank.keys_TLHPK is None:
        assert bank.embeddings_TPD is not None, "a file of ours holds a prompt"
        return {"hidden size": bank.embeddings_TPD.shape[2]}
    assert bank.values_TLHPK is not None
    _, layers, heads, _, head_size = bank.keys_TLHPK.shape
    return {
        "layers": layers,
        "key-value heads": heads,
        "key size": head_size,
        "value size": bank.values_TLHPK.shape[4],
    }


def _sizes_of_model(bank: PromptBank, spec: BackboneSpec) -> dict[str, int]:
    if bank.keys_TLHPK is None:
        return {"hidden size": spec.hidden_size}
    spec.expect_prefixes()
    return {
        "layers": spec.num_layers,
        "key-value heads": spec.num_kv_heads,
        "key size": spec.head_size,
        "value size": spec.value_size,
    }
