"""Context-aware prompt tuning (CPT, Blau et al. 2024, arXiv 2410.17222, section 3).

The prompt starts as labelled training rows, one after another, and is trained by projected gradient descent:
after each update every token is moved back into a ball around the embedding it began as. The tokens of labels
stay as they are, and the loss also falls on them: the last label in the prompt counts `decay`, each earlier
one `decay` times the next. The row's own label counts 1.

It differs from the paper in its length, which the layout sets (as everywhere in softcue), so the first
demonstration is cut at its start; in its order, which the seed draws; and in its radii, which are given as
they are (the authors' code multiplies them by the square root of D / 2048).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from softcue.contracts import (
    BackboneSpec,
    Batch,
    Demonstration,
    Ids,
    OwnLabels,
    PaddedRows,
    PromptBank,
    SoftPrompt,
    TrainingRows,
)
from softcue.errors import ConfigError

Kind = Literal["template", "text", "label"]


class ContextPrompt(SoftPrompt):
    """Embeddings of the P - N tokens that are not of a label, as N are: (P - N) D parameters.

    Raises:
        ConfigError: the training rows and their labels have fewer tokens than the layout.
    """

    in_front = True
    start_PD: Tensor
    trained_p: Tensor
    radius_p: Tensor

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        rows: TrainingRows,
        separator: str,
        text_radius: float,
        template_radius: float,
        decay: float,
    ) -> None:
        super().__init__()
        if spec.targets_apart:
            raise ConfigError(
                f"prompt=cpt reads labels in a row, behind its text, and {spec.name} has them in its "
                "decoder; choose prompt=prompt_tuning or another method."
            )
        order = torch.randperm(len(rows.demonstrations), generator=generator).tolist()
        context = Context.of(
            [rows.demonstrations[at] for at in order],
            separator=tuple(spec.tokenize(separator)),
            num_tokens=num_virtual_tokens,
        )
        radii = {"text": text_radius, "template": template_radius}
        trained = [at for at, kind in enumerate(context.kinds) if kind != "label"]
        self.register_buffer("start_PD", spec.embed(torch.tensor(context.ids)).float().cpu())
        self.register_buffer("trained_p", torch.tensor(trained))
        self.register_buffer("radius_p", torch.tensor([radii[context.kinds[at]] for at in trained]))
        self.vectors_pD = nn.Parameter(self.start_PD[trained].clone())
        self.own_labels = context.labels(decay) if decay else None

    def forward(self) -> PromptBank:
        return PromptBank(embeddings_TPD=self.start_PD.index_copy(0, self.trained_p, self.vectors_pD)[None])

    @torch.no_grad()
    def after_update(self) -> None:
        start_pD = self.start_PD[self.trained_p]
        offset_pD = self.vectors_pD - start_pD
        norm_p = offset_pD.norm(dim=1)
        outside_p = norm_p > self.radius_p
        scale_p = self.radius_p[outside_p] / norm_p[outside_p]
        self.vectors_pD[outside_p] = start_pD[outside_p] + scale_p[:, None] * offset_pD[outside_p]


@dataclass(frozen=True, kw_only=True)
class Context:
    """Demonstrations as the tokens of a prompt."""

    ids: Ids
    kinds: tuple[Kind, ...]
    spans: tuple[tuple[int, int], ...]
    """The beginning and end of each label with a token of the prompt before it."""

    @classmethod
    def of(cls, demonstrations: list[Demonstration], *, separator: Ids, num_tokens: int) -> Context:
        """The last `num_tokens` tokens of the first demonstrations that have so many."""
        ids, kinds, ends = list[int](), list[Kind](), list[tuple[int, int]]()
        for one in demonstrations:
            if len(ids) >= num_tokens:
                break
            ids += [*one.ids, *one.label, *separator]
            kinds += ["text" if is_text else "template" for is_text in one.is_text]
            ends.append((len(kinds), len(kinds) + len(one.label)))
            kinds += ["label" for _ in one.label]
            kinds += ["template" for _ in separator]
        cut = len(ids) - num_tokens
        if cut < 0:
            raise ConfigError(
                f"prompt.layout has {num_tokens} virtual tokens, and the training rows with their labels "
                f"have {len(ids)}; set prompt.layout to {len(ids)} or fewer."
            )
        spans = tuple((first - cut, end - cut) for first, end in ends if first > cut)
        return cls(ids=tuple(ids[cut:]), kinds=tuple(kinds[cut:]), spans=spans)

    def labels(self, decay: float) -> OwnLabels | None:
        """Each label after the virtual tokens before it; None if the prompt holds no whole one."""
        if not self.spans:
            return None
        rows = tuple(tuple(range(-1, -1 - first, -1)) for first, _ in self.spans)
        zeros = torch.zeros(len(rows), dtype=torch.long)
        batch = Batch(
            rows=rows,
            choices=tuple((self.ids[first:end],) for first, end in self.spans),
            target_B=zeros,
            prompt_B=zeros,
            row_B=torch.arange(len(rows)),
            padded=PaddedRows.of(rows),
        )
        weights = list(accumulate([decay] * len(rows), lambda weight, one: weight * one))
        return OwnLabels(batch=batch, weight_B=torch.tensor(weights[::-1]))
