"""Start from a prompt of another frozen model: prompt recycling (Lester et al. 2022, arXiv 2208.05577).

Words that both vocabularies hold tie the two models' embeddings together: with V_s and V_t the embeddings
of those words in the source's and in the new model, the prompt P becomes P V_s⁺ V_t. The paper has two such
maps, one of vocabularies (v2v-lin: V_s Y = V_t, then P Y) and one of combinations of words (lin-comb:
P = X V_s, then X V_t); solved exactly, in least squares and with the smallest X, they are this one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerFast

from softcue.contracts import BackboneSpec
from softcue.errors import ConfigError
from softcue.formats.prompt_file import PromptFile
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.saved_initialiser import start_vectors
from softcue.prompts.saved_prompt import open_source, read_prompt

log = logging.getLogger(__name__)


class Model(Protocol):
    """What is read of the source's model."""

    spec: BackboneSpec
    tokenizer: PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Recycled(Initialiser):
    """The prompt of a run on another model, with as many virtual tokens as the new one.

    `backbone` loads that model. Of its vocabulary the first `top` tokens are looked at, or all if None: those
    that are one token of the new model too are the words that tie both together.
    """

    path: str
    member: int | None
    backbone: Callable[[], Model]
    top: int | None

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        model = self.backbone()
        key = "prompt.initialiser"
        self._expect_its_model(model.spec.name)
        bank, _ = read_prompt(self.path, spec=model.spec, member=self.member, key=key)
        if bank.embeddings_TPD is None or width != spec.hidden_size:
            raise ConfigError(
                f"{key} Recycled maps embeddings to embeddings of {spec.hidden_size} numbers; {key}.path="
                f"{self.path} and this prompt have to be of embeddings, as those of prompt=prompt_tuning are."
            )
        source_PD = start_vectors(
            bank, num_tokens=num_tokens, width=model.spec.hidden_size, where=f"{key}.path={self.path}"
        )
        ids, own_ids = self._shared_words(model, spec)
        if len(ids) < model.spec.hidden_size:
            raise ConfigError(
                f"{key}.top is {self.top}: {len(ids)} tokens of {model.spec.name} are one token of "
                f"{spec.name} too, fewer than the {model.spec.hidden_size} numbers of an embedding; "
                f"raise {key}.top, or choose models whose vocabularies have more in common."
            )
        log.info("%d tokens tie %s and %s together", len(ids), model.spec.name, spec.name)
        source_ND, own_ND = _embed(model.spec, ids), _embed(spec, own_ids)
        # In double precision: embeddings of frequent words are close to each other.
        mapping_DE: Tensor = torch.linalg.lstsq(source_ND, own_ND, driver="gelsd").solution
        recycled_PE: Tensor = source_PD.double() @ mapping_DE
        return recycled_PE.float()

    def _expect_its_model(self, name: str) -> None:
        where = f"prompt.initialiser.path={self.path}"
        source = open_source(self.path, where=where)
        if isinstance(source, PromptFile) and source.made_for != name:
            raise ConfigError(
                f"{where} was trained for {source.made_for}, and prompt.initialiser.backbone is {name}; "
                f"choose the prompt's own, as with backbone@prompt.initialiser.backbone={source.made_for}."
            )

    def _shared_words(self, model: Model, spec: BackboneSpec) -> tuple[list[int], list[int]]:
        """The source model's tokens that are one token of the new one too, and that token for each."""
        size = min(len(model.tokenizer), model.spec.vocab_size)
        pairs = []
        for token in range(size if self.top is None else min(self.top, size)):
            own = spec.tokenize(str(model.tokenizer.decode([token])))
            if len(own) == 1:
                pairs.append((token, own[0]))
        return [token for token, _ in pairs], [own for _, own in pairs]


def _embed(spec: BackboneSpec, ids: list[int]) -> Tensor:
    return spec.embed(torch.tensor(ids)).double().cpu()
