"""The formulas of a reading: norms, cosines, percentiles and distances.

V vocabulary, P virtual tokens, D hidden size, N nearest, Q the quantiles in `LEVELS`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

LEVELS = (0.05, 0.5, 0.95)
"""The quantiles that summarise a distribution of norms."""
ROWS_AT_ONCE = 2**15
"""Rows of the vocabulary converted to fp32 at a time, so that a bfloat16 table is not held twice."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far vectors moved: the L2 distance to their start, and the cosine with it."""

    distance: Tensor
    cosine: Tensor


def drift(now: Tensor, start: Tensor) -> Drift:
    """Compare vectors with their start, over the last dimension."""
    return Drift(distance=(now - start).norm(dim=-1), cosine=cosine_similarity(now, start, dim=-1))


def similarity(vectors_PD: Tensor) -> Tensor:
    """The cosine of every vector with every other: [P, P]."""
    unit_PD = normalize(vectors_PD, dim=1)
    return unit_PD @ unit_PD.T


def similar_others(similarity_PP: Tensor) -> list[tuple[int | None, float | None]]:
    """Each vector's most similar other and the cosine; a single vector has none."""
    if len(similarity_PP) == 1:
        return [(None, None)]
    cosine_P, index_P = similarity_PP.clone().fill_diagonal_(-torch.inf).max(dim=1)
    return list(zip(index_P.tolist(), cosine_P.tolist(), strict=True))


def nearest(vectors_PD: Tensor, embedding_VD: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """The tokens of highest cosine, highest first, and their cosines: [P, N] each."""
    unit_PD = normalize(vectors_PD, dim=1)
    parts = [unit_PD @ normalize(part.float(), dim=1).T for part in embedding_VD.split(ROWS_AT_ONCE)]
    cosine_PN, id_PN = torch.cat(parts, dim=1).topk(count, dim=1)
    return id_PN, cosine_PN


def norms(embedding_VD: Tensor) -> Tensor:
    """The L2 norm of each row, in fp32: [V]."""
    return torch.cat([part.float().norm(dim=1) for part in embedding_VD.split(ROWS_AT_ONCE)])


def percentiles(norm_P: Tensor, norm_V: Tensor) -> Tensor:
    """Percent of the vocabulary whose norm is smaller: [P]."""
    return 100 * torch.searchsorted(norm_V.sort().values, norm_P) / len(norm_V)


def quantiles(norms: Tensor) -> Tensor:
    """The `LEVELS` of the last dimension, which becomes Q."""
    return norms.quantile(torch.tensor(LEVELS, device=norms.device), dim=-1).movedim(0, -1)
