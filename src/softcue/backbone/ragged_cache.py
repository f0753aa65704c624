"""Keys and values of rows that are continued token by token, without padding between rows.

What rows of one prompt have in common (its keys and values, and the shared prefix of their text) is held
once, for all rows and beams. The rest of each row, its tail, is held once for all its beams, one after
another in one tensor. Each hypothesis holds only the tokens generated so far, of which all have the same
number.

Shape legend, besides that of `contracts`: U fronts of P keys, R live rows of J hypotheses each, N = R J,
M cells of all tails, T the longest tail, S generated tokens, G query heads for each of the H key heads,
X = J G queries of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from softcue.backbone.attention import KeysAndValues
from softcue.backbone.segments import Segment
from softcue.backbone.stream import RowPlan, split_shared
from softcue.contracts import PromptBank


@dataclass(frozen=True, kw_only=True)
class RowsLayout:
    """Where the keys of R rows are, and how many."""

    front_R: Tensor
    front_lengths_R: Tensor
    first_cells_R: Tensor
    tail_lengths_R: Tensor

    @property
    def lengths_R(self) -> Tensor:
        """Tokens of each row before the first generated one."""
        return self.front_lengths_R + self.tail_lengths_R

    def select(self, index_R: Tensor) -> RowsLayout:
        """Some of the rows."""
        return RowsLayout(
            front_R=self.front_R[index_R],
            front_lengths_R=self.front_lengths_R[index_R],
            first_cells_R=self.first_cells_R[index_R],
            tail_lengths_R=self.tail_lengths_R[index_R],
        )


@dataclass(kw_only=True)
class LayerKeys:
    """The keys, or the values, of one layer."""

    fronts_UHPK: Tensor
    tails_HMK: Tensor
    generated_HNSK: Tensor
    """Room for all tokens that may be generated."""


@dataclass(frozen=True, kw_only=True)
class _Visible:
    """What every layer of one step uses."""

    cells_RT: Tensor
    """Cells of the tails; padding repeats the first."""
    bias_HRX: Tensor
    """Added to the scores: [1 or H, R, 1 or X, P + T + S]."""


class RaggedCache:
    """The keys and values of all layers, and the attention of one new token of each hypothesis to them."""

    def __init__(
        self,
        layers: Sequence[tuple[LayerKeys, LayerKeys]],
        rows: RowsLayout,
        *,
        slopes_HG: Tensor | None,
    ) -> None:
        self._layers, self._rows, self._slopes_HG = layers, rows, slopes_HG
        self._num_generated = 0
        self._num_hypotheses = len(rows.front_R)
        self._visible: _Visible | None = None

    @property
    def positions_N(self) -> Tensor:
        """The position of each hypothesis's next token."""
        beams = self._num_hypotheses // len(self._rows.front_R)
        return (self._rows.lengths_R + self._num_generated).repeat_interleave(beams)

    def select(self, parents: Sequence[int]) -> None:
        """Keep the hypotheses that are continued, each as often as it is."""
        if list(parents) == list(range(self._num_hypotheses)):
            return
        beams = self._num_hypotheses // len(self._rows.front_R)
        device = self._rows.front_R.device
        rows = list(dict.fromkeys(parent // beams for parent in parents))
        self._rows = self._rows.select(torch.tensor(rows, device=device))
        self._num_hypotheses = len(parents)
        index_N = torch.tensor(list(parents), device=device)
        for layer in self._layers:
            for own in layer:
                own.generated_HNSK = own.generated_HNSK.index_select(1, index_N)

    def begin_step(self) -> None:
        """Make room for one more token of each hypothesis."""
        self._num_generated += 1
        rows, width = self._rows, self._layers[0][0].fronts_UHPK.shape[2]
        longest = int(rows.tail_lengths_R.max())
        device = rows.front_R.device
        at_T = torch.arange(longest, device=device)
        in_tail_RT = at_T < rows.tail_lengths_R[:, None]
        in_front_RP = torch.arange(width, device=device) < rows.front_lengths_R[:, None]
        generated_RS = torch.ones(len(in_tail_RT), self._num_generated, dtype=torch.bool, device=device)
        sees_RX = torch.cat([in_front_RP, in_tail_RT, generated_RS], dim=1)
        bias = torch.zeros(sees_RX.shape, device=device).masked_fill(~sees_RX, float("-inf"))[None, :, None]
        self._visible = _Visible(
            cells_RT=torch.where(in_tail_RT, rows.first_cells_R[:, None] + at_T, 0),
            bias_HRX=bias if self._slopes_HG is None else self._with_alibi(bias, width, longest),
        )

    def _with_alibi(self, bias: Tensor, width: int, longest: int) -> Tensor:
        """Add the linear bias (Press et al. 2022), counted from the new token."""
        assert self._slopes_HG is not None
        rows, device = self._rows, bias.device
        position_RX = torch.cat(
            [
                torch.arange(width, device=device).expand(len(rows.front_R), -1),
                rows.front_lengths_R[:, None] + torch.arange(longest, device=device),
                rows.lengths_R[:, None] + torch.arange(self._num_generated, device=device),
            ],
            dim=1,
        )
        distance_RX = position_RX - (rows.lengths_R[:, None] + self._num_generated - 1)
        alibi = self._slopes_HG[:, None, :, None] * distance_RX[None, :, None, :]
        beams = self._num_hypotheses // len(rows.front_R)
        return bias + alibi.repeat(1, 1, beams, 1)

    def attend(
        self, layer: int, query_NHK: Tensor, key_NHK: Tensor, value_NHK: Tensor, scaling: float | None
    ) -> Tensor:
        """Attention of each hypothesis's new token to all tokens before it and itself: [N, heads, K]."""
        assert self._visible is not None
        visible, (keys, values) = self._visible, self._layers[layer]
        num_heads, size = query_NHK.shape[1:]
        num_key_heads, num_rows = key_NHK.shape[1], len(self._rows.front_R)
        for own, new_NHK in ((keys, key_NHK), (values, value_NHK)):
            own.generated_HNSK[:, :, self._num_generated - 1] = new_NHK.transpose(0, 1)
        scale = size**-0.5 if scaling is None else scaling
        query_NHGK = (query_NHK * scale).view(-1, num_key_heads, num_heads // num_key_heads, size)
        query_HRXK = query_NHGK.transpose(0, 1).reshape(num_key_heads, num_rows, -1, size)
        scores = [
            _times(query_HRXK, block.transpose(-1, -2)) for block in self._blocks(keys, visible.cells_RT)
        ]
        score_HRX = torch.cat(scores, dim=-1) + visible.bias_HRX.to(query_NHK.dtype)
        shares = score_HRX.softmax(dim=-1).split([score.shape[-1] for score in scores], dim=-1)
        blocks = zip(shares, self._blocks(values, visible.cells_RT), strict=True)
        output_HRXK = reduce(torch.add, (_times(share, block) for share, block in blocks))
        output_HNGK = output_HRXK.view(num_key_heads, len(query_NHK), -1, output_HRXK.shape[-1])
        return output_HNGK.transpose(0, 1).flatten(1, 2)

    def _blocks(self, own: LayerKeys, cells_RT: Tensor) -> list[Tensor]:
        """The keys of fronts, tails and generated tokens: [H, 1 or R or N, keys, K] each."""
        fronts_HUPK = own.fronts_UHPK.transpose(0, 1)
        if fronts_HUPK.shape[1] > 1:
            fronts_HUPK = fronts_HUPK.index_select(1, self._rows.front_R)
        tails_HRTK = own.tails_HMK.index_select(1, cells_RT.flatten()).unflatten(1, cells_RT.shape)
        blocks = [fronts_HUPK, tails_HRTK, own.generated_HNSK[:, :, : self._num_generated]]
        return blocks if fronts_HUPK.shape[2] else blocks[1:]


def _times(rows_HRXK: Tensor, block_HBKL: Tensor) -> Tensor:
    """Products of each row with its block: the only one, or one for each row or each hypothesis."""
    heads, num_rows, num_queries, size = rows_HRXK.shape
    own = rows_HRXK.reshape(heads, block_HBKL.shape[1], -1, size)
    return (own @ block_HBKL).view(heads, num_rows, num_queries, -1)


def ragged_cache(
    rows: Sequence[RowPlan],
    bank: PromptBank,
    captured: Sequence[KeysAndValues],
    static_SPLHW: Tensor | None,
    *,
    slopes_HG: Tensor | None,
    max_new_tokens: int,
) -> RaggedCache:
    """The cache of rows whose stream has run: each layer's keys and values [N, H, K] are `captured`."""
    pieces = _Pieces.of(rows, bank.prefix_lengths)
    layers = []
    for number, (keys_NHK, values_NHK) in enumerate(captured):
        sizes = [keys_NHK.shape[2], values_NHK.shape[2]]
        static = None if static_SPLHW is None else static_SPLHW[:, :, number].split(sizes, dim=-1)
        prefixes = bank.keys_TLHPK, bank.values_TLHPK
        keys, values = (
            LayerKeys(
                fronts_UHPK=pieces.fronts(own, None if prefix is None else prefix[:, number]),
                tails_HMK=pieces.tails(own, None if static is None else static[at]),
                generated_HNSK=own.new_empty(own.shape[1], len(rows), max_new_tokens, own.shape[2]),
            )
            for at, (own, prefix) in enumerate(zip((keys_NHK, values_NHK), prefixes, strict=True))
        )
        layers.append((keys, values))
    return RaggedCache(layers, pieces.layout(captured[0][0].device), slopes_HG=slopes_HG)


@dataclass(frozen=True, kw_only=True)
class _Pieces:
    """The segments of a stream, and the prompts whose fronts precede its tails."""

    prefix_lengths: Sequence[int]
    prompts: Sequence[int]
    shared: Sequence[Segment]
    segments: Sequence[Segment]
    """The tails."""

    @classmethod
    def of(cls, rows: Sequence[RowPlan], prefix_lengths: Sequence[int]) -> _Pieces:
        """The pieces of some rows, as `lay_out` divides them."""
        shared, tails = split_shared(rows, prefix_lengths)
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        return cls(prefix_lengths=prefix_lengths, prompts=prompts, shared=shared, segments=tails)

    def layout(self, device: torch.device) -> RowsLayout:
        """Where each row's keys are."""
        lengths_R = torch.tensor([tail.num_static + len(tail.ids) for tail in self.segments], device=device)
        return RowsLayout(
            front_R=torch.tensor([self.prompts.index(tail.prompt) for tail in self.segments], device=device),
            front_lengths_R=torch.tensor(
                [tail.first_position - tail.num_static for tail in self.segments], device=device
            ),
            first_cells_R=lengths_R.cumsum(0) - lengths_R,
            tail_lengths_R=lengths_R,
        )

    def fronts(self, own_NHK: Tensor, prefix_THPK: Tensor | None) -> Tensor:
        """Each prompt's keys and those of its shared prefix, padded at the end: [U, H, P, K]."""
        parts = own_NHK.split(self._sizes)
        shared_of = {segment.prompt: part for segment, part in zip(self.shared, parts, strict=False)}
        fronts = []
        for prompt in self.prompts:
            front_PHK = shared_of.get(prompt, own_NHK[:0])
            if prefix_THPK is not None:
                prefix_PHK = prefix_THPK[prompt, :, : self.prefix_lengths[prompt]].transpose(0, 1)
                front_PHK = torch.cat([prefix_PHK.to(own_NHK.dtype), front_PHK])
            fronts.append(front_PHK)
        return pad_sequence(fronts, batch_first=True).transpose(1, 2).contiguous()

    def tails(self, own_NHK: Tensor, static_SPHK: Tensor | None) -> Tensor:
        """The keys of each row's own tokens, row after row: [H, M, K]."""
        parts = own_NHK.split(self._sizes)[len(self.shared) :]
        tails = []
        for row, (tail, part) in enumerate(zip(self.segments, parts, strict=True)):
            if static_SPHK is not None:
                tails.append(static_SPHK[row, : tail.num_static].to(own_NHK.dtype))
            tails.append(part)
        return torch.cat(tails).transpose(0, 1).contiguous()

    @property
    def _sizes(self) -> list[int]:
        return [len(segment.all_ids) for segment in (*self.shared, *self.segments)]
