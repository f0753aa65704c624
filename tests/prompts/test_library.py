"""The nearest trained prompt, as a list and as a start; cosines come from numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import PromptBank
from softcue.errors import ConfigError
from softcue.formats.peft import adapter_files
from softcue.formats.prompt_file import bank_to_bytes
from softcue.prompts.__main__ import main
from tests.prompts.formulas import TOKENS, embeddings, make
from tests.tiny import HIDDEN

NEAREST = "prompt/initialiser=nearest"


def save(vectors_TPD: Tensor, folder: Path, *, backbone: str = "tiny_llama", task: str = "topics") -> str:
    folder.mkdir(parents=True)
    metadata = {"backbone": backbone, "layout": "[soft:4]{input}", "task": task}
    (folder / "prompt.safetensors").write_bytes(
        bank_to_bytes(PromptBank(embeddings_TPD=vectors_TPD), metadata)
    )
    return str(folder)


def draws(count: int) -> Tensor:
    return torch.randn(count, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(0))


def cosines(query_PD: Tensor, library_TPD: Tensor) -> list[float]:
    """Vu et al. 2022, section 3.2: the cosine of the prompts' averages over tokens."""
    one_D, means_TD = query_PD.numpy().mean(axis=0), library_TPD.numpy().mean(axis=1)
    return [float(m_D @ one_D / np.linalg.norm(m_D) / np.linalg.norm(one_D)) for m_D in means_TD]


def toward(query_PD: Tensor) -> Tensor:
    """Three prompts on the query's side."""
    return draws(4)[1:] + query_PD


@pytest.fixture
def library(tmp_path: Path) -> tuple[str, list[str], Tensor, Tensor]:
    """A query and three prompts: their folders and their vectors."""
    query_PD = draws(4)[0]
    prompts_TPD = toward(query_PD)
    folders = [save(one_PD[None], tmp_path / f"run-{at}") for at, one_PD in enumerate(prompts_TPD)]
    return save(query_PD[None], tmp_path / "query"), folders, query_PD, prompts_TPD


def test_the_start_is_the_prompt_of_the_highest_cosine(
    llama: StreamLM, library: tuple[str, list[str], Tensor, Tensor]
) -> None:
    query, folders, query_PD, prompts_TPD = library
    paths = (
        f"prompt.initialiser.query={query}",
        # The query itself is never its own nearest prompt, however its path is written.
        f"prompt.initialiser.library=[{','.join([*folders, query, f'{query}/prompt.safetensors'])}]",
    )
    found = cosines(query_PD, prompts_TPD)
    nearest_PD = embeddings(make(llama, "prompt=prompt_tuning", NEAREST, *paths))
    assert torch.equal(nearest_PD, prompts_TPD[int(np.argmax(found))])
    mean_PD = embeddings(make(llama, "prompt=prompt_tuning", NEAREST, *paths, "prompt.initialiser.top=3"))
    weights_T = np.array(found) / sum(found)
    expected_PD = np.einsum("t,tpd->pd", weights_T, prompts_TPD.numpy())
    np.testing.assert_allclose(mean_PD.numpy(), expected_PD, rtol=0, atol=1e-5)


def test_prefix_tuning_starts_from_the_nearest_keys_and_values(llama: StreamLM, tmp_path: Path) -> None:
    spec = llama.spec
    shape = (4, spec.num_layers, spec.num_kv_heads, TOKENS, spec.head_size)
    keys, values = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).unbind()
    keys[2], values[2] = keys[0] + 0.1, values[0] + 0.1
    for at in range(4):
        bank = PromptBank(keys_TLHPK=keys[at : at + 1], values_TLHPK=values[at : at + 1])
        (tmp_path / str(at)).mkdir()
        content = bank_to_bytes(bank, {"backbone": spec.name, "layout": "[soft:4]{input}"})
        (tmp_path / str(at) / "prompt.safetensors").write_bytes(content)
    others = ",".join(str(tmp_path / str(at)) for at in (1, 2, 3))
    paths = (f"prompt.initialiser.query={tmp_path / '0'}", f"prompt.initialiser.library=[{others}]")
    direct = ("prompt=prefix_tuning", "prompt.method.through_backbone=false")
    found: PromptBank = make(llama, *direct, NEAREST, *paths)()
    assert found.values_TLHPK is not None
    assert torch.equal(found.values_TLHPK[0], values[2])


@pytest.mark.parametrize(
    ("which", "top", "message"),
    [
        ("others", 1, r"prompt\.initialiser: .*foreign was trained for bloomz_560m .* tiny_llama"),
        ("three", 4, r"prompt\.initialiser\.top is 4, and prompt\.initialiser\.library has 3 prompts"),
        ("opposite", 2, r"prompt\.initialiser\.top is 2, .* 1 of them with a cosine above 0"),
    ],
)
def test_a_library_that_cannot_be_used_is_refused(
    llama: StreamLM,
    tmp_path: Path,
    library: tuple[str, list[str], Tensor, Tensor],
    which: str,
    top: int,
    message: str,
) -> None:
    query, folders, query_PD, _ = library
    if which == "others":
        folders.append(save(query_PD[None], tmp_path / "foreign", backbone="bloomz_560m"))
    if which == "opposite":
        folders = [folders[0], save(-query_PD[None], tmp_path / "opposite")]
    paths = (f"prompt.initialiser.query={query}", f"prompt.initialiser.library=[{','.join(folders)}]")
    with pytest.raises(ConfigError, match=message):
        make(llama, "prompt=prompt_tuning", NEAREST, *paths, f"prompt.initialiser.top={top}")


def test_the_command_lists_the_nearest_first_and_says_what_it_leaves_out(
    tmp_path: Path,
    library: tuple[str, list[str], Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    query, folders, query_PD, prompts_TPD = library
    save(query_PD[None, :, :8], tmp_path / "smaller")
    adapter = adapter_files(
        PromptBank(embeddings_TPD=query_PD[None]), peft_type="PROMPT_TUNING", base_model="tiny/llama"
    )
    (tmp_path / "adapter").mkdir()
    for name, content in adapter.items():
        (tmp_path / "adapter" / name).write_bytes(content)
    monkeypatch.setattr(
        "sys.argv", ["softcue-prompts", f"query={query}", f"library={tmp_path}", "format=csv"]
    )
    main()
    printed = capsys.readouterr()
    lines = [line.split(",") for line in printed.out.splitlines()[1:]]
    order = np.argsort(cosines(query_PD, prompts_TPD))[::-1]
    assert [line[0] for line in lines] == [folders[at] for at in order]
    assert [float(line[-1]) for line in lines] == pytest.approx(sorted(cosines(query_PD, prompts_TPD))[::-1])
    assert "Left out, as they are for another model or of another form: 1." in printed.err
    # An adapter names its model otherwise; of the same sizes it is compared.
    monkeypatch.setattr(
        "sys.argv", ["softcue-prompts", f"query={query}", f"library=[{tmp_path / 'adapter'}]", "format=csv"]
    )
    main()
    assert float(capsys.readouterr().out.splitlines()[1].split(",")[-1]) == pytest.approx(1.0)


def test_a_library_without_prompts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = save(draws(1), tmp_path / "a" / "query")
    monkeypatch.setattr("sys.argv", ["softcue-prompts", f"query={query}", f"library={tmp_path / 'empty'}"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "has no trained prompts below it; give a folder of complete runs." in capsys.readouterr().err
