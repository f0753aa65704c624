"""Settings of a method that each are in their range and cannot be together, refused before a model is loaded.

As ranges do, they need no torch: a dry run of many jobs checks all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from softcue.errors import ConfigError

Settings = Mapping[str, Any]


def expect_possible(method: Settings, *, num_virtual_tokens: int) -> None:
    """Refuse what a method's own settings rule out; `method` is the resolved `prompt.method`.

    Raises:
        ConfigError: names the setting, its value and the way out.
    """
    check = CHECKS.get(str(method.get("_target_")))
    if check is not None and num_virtual_tokens:
        check(method, num_virtual_tokens)


def expect_evolution_possible(settings: Settings) -> None:
    """Refuse what a search without gradients cannot have; `settings` are composed, of a whole run.

    Raises:
        ConfigError: names the setting, its value and the way out.
    """
    if settings["optimizer"].get("_target_") != EVOLUTION:
        return
    if any(settings["joint"].values()):
        raise ConfigError(
            f"joint is {dict(settings['joint'])}, and optimizer=cma_es already fills a pass with its "
            "candidates; train the runs one after another, as with -m seed=0,1."
        )
    for callback in (settings.get("callbacks") or {}).values():
        if (callback or {}).get("monitor") is not None:
            raise ConfigError(
                f"callbacks has {callback['_target_']}, which chooses by {callback['monitor']}, and "
                "optimizer=cma_es keeps the candidate of the lowest training loss; use callbacks=default."
            )
    method = settings["prompt"]["method"]["_target_"]
    if method.startswith("softcue.baselines.adapters."):
        raise ConfigError(
            f"prompt.method is {method.rpartition('.')[2]}, an adapter with too many numbers for "
            "optimizer=cma_es; use optimizer=adamw."
        )


def _decomposed(method: Settings, num_virtual_tokens: int) -> None:
    if method["rank"] > method["num_words"]:
        raise ConfigError(
            f"prompt.method.rank is {method['rank']}, more than the {method['num_words']} words of "
            f"prompt.method.num_words, so the product would save nothing; set it to {method['num_words']} or "
            "less."
        )


def _low_rank(method: Settings, num_virtual_tokens: int) -> None:
    if method["rank"] > num_virtual_tokens:
        raise ConfigError(
            f"prompt.method.rank is {method['rank']}, more than the {num_virtual_tokens} virtual tokens of "
            f"prompt.layout, so the product would save nothing; set it to {num_virtual_tokens} or less, or "
            "use prompt=prompt_tuning."
        )


def _cartridge(method: Settings, num_virtual_tokens: int) -> None:
    start, frozen = str(method["initialiser"]["_target_"]), method["num_frozen"]
    if not start.endswith(".initialisers.Text"):
        raise ConfigError(
            f"prompt.initialiser is {start.rpartition('.')[2]}, and prompt=cartridge starts from a text: its "
            "first token is the sink; set prompt/initialiser=text, or use prompt=prefix_tuning."
        )
    if frozen >= num_virtual_tokens:
        raise ConfigError(
            f"prompt.method.num_frozen is {frozen}, which leaves none of the {num_virtual_tokens} virtual "
            "tokens of prompt.layout to train; set it to fewer."
        )


EVOLUTION = "softcue.training.evolution.Evolution"
CHECKS: Mapping[str, Callable[[Settings, int], None]] = {
    "softcue.prompts.cartridge.Cartridge": _cartridge,
    "softcue.prompts.dept.DecomposedPrompt": _decomposed,
    "softcue.prompts.low_rank.LowRankPrompt": _low_rank,
}
"""By the class that `_target_` names."""
