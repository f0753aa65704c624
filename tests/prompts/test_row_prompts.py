"""Prompts that look at the row: each method's formula, written out from its paper, and what holds for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softcue.backbone.base import Backbone
from softcue.backbone.plain_lm import PlainLM
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import PromptBank, SoftPrompt
from softcue.errors import ConfigError, RunError
from softcue.evaluation.scoring import Scoring
from softcue.formats.prompt_file import bank_to_bytes, load_bank
from softcue.plan import prepare
from softcue.training.objectives import LanguageModelLoss
from tests.backbone.test_generation import GREEDY
from tests.composing import train_config
from tests.prompts.formulas import BATCH, TOKENS, VIRTUAL, count, make
from tests.tiny import batch_of, score_classes, tiny_model, tiny_tokenizer

MIXTURES, METHODS = ("smop", "idpg", "attempt"), ("smop", "idpg", "attempt", "dept")
Weights = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""The prompt [P, D] that a method's parameters and buffers, and the features of a row, make."""


@pytest.fixture(scope="module")
def sources(llama: StreamLM, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The folders of two finished prompts."""
    folders = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("source")
        vectors = torch.randn(
            1, TOKENS, llama.spec.hidden_size, generator=torch.Generator().manual_seed(seed)
        )
        content = bank_to_bytes(PromptBank(embeddings_TPD=vectors), {"backbone": llama.spec.name})
        (folder / "prompt.safetensors").write_bytes(content)
        folders.append(str(folder))
    return folders


@pytest.fixture
def prompts(llama: StreamLM, sources: list[str]) -> Callable[[str], SoftPrompt]:
    """Each method, its parameters random, as it predicts."""

    def made(method: str) -> SoftPrompt:
        given = {
            "attempt": [f"prompt.sources=[{','.join(sources)}]"],
            "dept": ["prompt.method.num_words=3", "prompt.method.rank=2", "prompt.method.scale=0.5"],
        }.get(method, [])
        prompt = make(llama, f"prompt={method}", *given).eval()
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in prompt.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return prompt

    return made


def normalised(features_D: Tensor) -> Tensor:
    centred_D = features_D - features_D.mean()
    normal_D: Tensor = centred_D / (centred_D.square().mean() + 1e-5).sqrt()
    return normal_D


def smop(of: Mapping[str, Tensor], words_ND: Tensor) -> Tensor:
    logits = [float(normalised(words_ND.mean(dim=0)) @ column_D) for column_D in of["router_DK"].T]
    chosen = max(range(len(logits)), key=logits.__getitem__)
    probability = torch.tensor(logits).exp()[chosen] / torch.tensor(logits).exp().sum()
    return probability * of["embeddings_KPD"][chosen]


def idpg(of: Mapping[str, Tensor], words_ND: Tensor) -> Tensor:
    hidden_M = (of["down_DM"].T @ normalised(words_ND.mean(dim=0)) + of["bias_M"]).clamp(min=0)
    *columns, bias_PD = of["embeddings_TPD"]
    parts = [unit * column_PD for unit, column_PD in zip(hidden_M, columns, strict=True)]
    return torch.stack([*parts, bias_PD]).sum(dim=0)


def attempt(of: Mapping[str, Tensor], words_ND: Tensor) -> Tensor:
    hidden_M = of["down_DM"].T @ normalised(words_ND.max(dim=0).values)
    query_D = normalised(of["up_MD"].T @ (hidden_M * hidden_M.sigmoid())) * of["scale_D"] + of["shift_D"]
    all_SPD = [*of["sources_SPD"], of["target_PD"]]
    shares = torch.stack([prompt_PD.max(dim=0).values @ query_D for prompt_PD in all_SPD]).softmax(dim=0)
    mixed = [share * prompt_PD for share, prompt_PD in zip(shares, all_SPD, strict=True)]
    return of["target_PD"] + torch.stack(mixed).sum(dim=0)


FORMULAS: Mapping[str, Weights] = {"smop": smop, "idpg": idpg, "attempt": attempt}


def row_banks(llama: StreamLM, prompt: SoftPrompt, formula: Weights) -> list[PromptBank]:
    """Each row's prompt by the paper's formula, as a bank of its own."""
    numbers = {name: tensor.detach() for name, tensor in prompt.state_dict().items()}
    words = [[token for token in row if token >= 0] for row in BATCH.rows]
    made = [formula(numbers, llama.spec.embed(torch.tensor(row)).float()) for row in words]
    return [PromptBank(embeddings_TPD=vectors_PD[None]) for vectors_PD in made]


@pytest.mark.parametrize("method", MIXTURES)
def test_a_row_is_scored_as_with_the_prompt_of_the_papers_formula(
    llama: StreamLM, prompts: Callable[[str], SoftPrompt], method: str
) -> None:
    prompt = prompts(method)
    ours = score_classes(llama, prompt(), BATCH).log_likelihood_BC
    for at, bank in enumerate(row_banks(llama, prompt, FORMULAS[method])):
        alone = score_classes(llama, bank, BATCH.select([at])).log_likelihood_BC
        torch.testing.assert_close(ours[at : at + 1], alone, rtol=0, atol=1e-4)
    assert not torch.allclose(ours[0], ours[1])


def test_words_have_the_offsets_of_their_places(
    llama: StreamLM, prompts: Callable[[str], SoftPrompt]
) -> None:
    prompt = prompts("dept")
    of = {name: tensor.detach() for name, tensor in prompt.state_dict().items()}
    offset_SD = 0.5 * of["left_SR"] @ of["right_RD"]
    ours = score_classes(llama, prompt(), BATCH).log_likelihood_BC
    model = tiny_model("llama")
    embed = model.get_input_embeddings()
    for row, choices, found_C in zip(BATCH.rows, BATCH.choices, ours, strict=True):
        words_ND = embed(torch.tensor([token for token in row if token >= 0]))
        shifted_ND = torch.cat([words_ND[:3] + offset_SD[: len(words_ND)], words_ND[3:]])
        for label, found in zip(choices, found_C, strict=False):
            inputs_TD = torch.cat([of["vectors_PD"], shifted_ND, embed(torch.tensor(label))])
            edges_TV = model(inputs_embeds=inputs_TD[None]).logits[0].log_softmax(dim=1)[-1 - len(label) : -1]
            expected = edges_TV[range(len(label)), list(label)].sum()
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ["plain", "stream"])
def test_a_rows_scores_do_not_depend_on_the_rows_beside_it(
    prompts: Callable[[str], SoftPrompt], method: str, engine: str
) -> None:
    kind = {"plain": PlainLM, "stream": StreamLM}[engine]
    lm: Backbone = kind(tiny_model("llama"), tiny_tokenizer(), name="tiny_llama")
    bank = prompts(method)()
    together = score_classes(lm, bank, BATCH).log_likelihood_BC
    alone = [score_classes(lm, bank, BATCH.select([at])).log_likelihood_BC for at in range(len(BATCH))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_without_words_has_a_prompt_too(
    llama: StreamLM, prompts: Callable[[str], SoftPrompt], method: str
) -> None:
    scores = score_classes(llama, prompts(method)(), batch_of([VIRTUAL], ((20,),)))
    assert scores.log_likelihood_BC.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_runs_that_train_jointly_have_the_losses_that_each_has_alone(
    llama: StreamLM, prompts: Callable[[str], SoftPrompt], method: str
) -> None:
    banks = [prompts(method)(), make(llama, "prompt=prompt_tuning")()]
    scoring, objective = Scoring(per_token=False), LanguageModelLoss()
    together = objective.losses(llama, banks, [BATCH, BATCH], scoring)
    for bank, loss in zip(banks, together, strict=True):
        alone = objective(llama, bank, BATCH, scoring)
        torch.testing.assert_close(loss.mean, alone.mean)


def test_parameters_are_as_many_as_the_methods_say(
    llama: StreamLM, prompts: Callable[[str], SoftPrompt]
) -> None:
    numbers, width = TOKENS * llama.spec.hidden_size, llama.spec.hidden_size
    assert count(prompts("smop")) == 4 * numbers + width * 4
    assert count(prompts("idpg")) == width * 16 + 16 + 17 * numbers
    assert count(prompts("dept")) == numbers + 2 * (3 + width)
    assert count(prompts("attempt")) == numbers + 2 * width * 20 + 2 * width


def test_the_routers_noise_is_there_in_training_alone_and_the_same_for_a_row(llama: StreamLM) -> None:
    prompt = make(llama, "prompt=smop")
    torch.manual_seed(3)
    noisy, rows = prompt(), BATCH.select([0, 0, 1])
    same = replace(rows, row_B=torch.tensor([7, 7, 8]))
    other = replace(rows, row_B=torch.tensor([7, 9, 8]))
    first = score_classes(llama, noisy, same).log_likelihood_BC
    second = score_classes(llama, noisy, other).log_likelihood_BC
    torch.testing.assert_close(first[0], first[1])
    torch.testing.assert_close(first[2], second[2])
    assert not torch.allclose(second[0], second[1])
    bank = prompt.eval()()
    assert bank.row_rule is not None
    assert list(bank.row_rule.tensors) == ["router_DT"]


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_row_rule_is_refused(
    prompts: Callable[[str], SoftPrompt], method: str, tmp_path: Path
) -> None:
    bank = prompts(method)().detach()
    assert bank.row_rule is not None
    name, tensor = list(bank.row_rule.tensors.items())[-1]
    cut = {**bank.row_rule.tensors, name: tensor[..., :-1]}
    for damaged, kind in (
        (replace(bank.row_rule, tensors={}), "a row_rule "),
        (replace(bank.row_rule, tensors=cut), " of shape "),
        (replace(bank.row_rule, kind="wheel"), "row_rule 'wheel'; it is one of"),
        (replace(bank.row_rule, kind=""), "and no row_rule in its metadata"),
    ):
        path = tmp_path / "prompt.safetensors"
        path.write_bytes(bank_to_bytes(replace(bank, row_rule=damaged), {"backbone": "tiny"}))
        with pytest.raises(RunError, match=kind):
            load_bank(path)


def test_what_one_prompt_for_all_rows_is_needed_for_is_refused(
    llama: StreamLM, prompts: Callable[[str], SoftPrompt], tmp_path: Path
) -> None:
    bank = prompts("smop")().detach()
    with pytest.raises(ConfigError, match="cannot be joined with others"):
        PromptBank.concat([bank, bank], vote="majority")
    (tmp_path / "prompt.safetensors").write_bytes(bank_to_bytes(bank, {"backbone": llama.spec.name}))
    for start in (
        ["prompt/initialiser=saved", f"prompt.initialiser.path={tmp_path}"],
        ["prompt=attempt", f"prompt.sources=[{tmp_path}]"],
    ):
        with pytest.raises(ConfigError, match="looks at the row, and one for all rows is needed"):
            make(llama, *start)
    scored = make(llama, "prompt=saved", f"prompt.path={tmp_path}")
    torch.testing.assert_close(
        score_classes(llama, scored(), BATCH).log_likelihood_BC,
        score_classes(llama, bank, BATCH).log_likelihood_BC,
    )


def test_a_placement_behind_the_row_shifts_the_words_in_front(
    llama: StreamLM, prompts: Callable[[str], SoftPrompt]
) -> None:
    bank = prompts("dept")().detach()
    behind = batch_of([[5, 6, *VIRTUAL]], ((20,),))
    own, (row,) = llama.own_prompts(bank, behind.rows)
    assert row == (-5, -6, *VIRTUAL)
    other = replace(bank, row_rule=None)
    first, second = (score_classes(llama, each, behind).log_likelihood_BC for each in (bank, other))
    assert not torch.allclose(first, second)
    assert own.num_virtual_tokens == (TOKENS + 2,)


def test_a_router_with_one_prompt_and_no_sources_are_refused(llama: StreamLM, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prompt\.method\.num_prompts.* 2 or more"):
        prepare(train_config("prompt=smop", "prompt.method.num_prompts=1"))
    few = ("prompt.method.num_words=8", "prompt.method.rank=9", f"paths.runs={tmp_path}")
    with pytest.raises(ConfigError, match=r"prompt\.method\.rank is 9, more than the 8 words"):
        prepare(train_config("experiment=quickstart", "prompt=dept", *few))
    with pytest.raises(ConfigError, match=r"prompt\.sources is \[\]; give"):
        make(llama, "prompt=attempt", "prompt.sources=[]")


def test_texts_are_generated_with_each_rows_own_prompt(
    llama: StreamLM, prompts: Callable[[str], SoftPrompt]
) -> None:
    rows = batch_of([[*VIRTUAL, 5, 6], [*VIRTUAL, 5, 9, 8, 7]], ((20,),))
    prompt = prompts("idpg")
    together = llama.generate(prompt(), rows, GREEDY)
    alone = [llama.generate(prompt(), rows.select([at]), GREEDY)[0] for at in range(2)]
    assert together == alone
