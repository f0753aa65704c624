"""How rows are scored and texts generated, and metrics of one's own, from a config."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from omegaconf import DictConfig

from softcue.build.instantiate import make

if TYPE_CHECKING:
    from softcue.contracts import Decoding
    from softcue.evaluation.metrics import MetricFactory
    from softcue.evaluation.scoring import Scoring


def build_scoring(config: DictConfig) -> Scoring:
    """How label likelihoods become class probabilities."""
    return cast("Scoring", make(config.scoring))


def build_decoding(config: DictConfig) -> Decoding | None:
    """How texts are generated after rows; None: not at all."""
    node = config.data.get("decoding")
    return None if node is None else cast("Decoding", make(node))


def own_metrics(config: DictConfig) -> dict[str, MetricFactory]:
    return {str(name): make(node) for name, node in config.metrics.items() if node}
