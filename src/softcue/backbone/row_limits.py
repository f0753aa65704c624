"""How long a row a model can run, from its config."""

from __future__ import annotations

from transformers import PreTrainedConfig

POSITION_LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "seq_length",
    "max_seq_len",
    "max_target_positions",
)
"""Names under which configs keep the number of positions; ALiBi models keep their training length."""
DEFAULT_LIMIT = 2048
"""For models without positions, such as state-space models."""


def max_positions(config: PreTrainedConfig) -> int:
    """Positions that the model distinguishes."""
    config = config.get_text_config(decoder=True)
    values = (getattr(config, name, None) for name in POSITION_LIMITS)
    return next((value for value in values if isinstance(value, int)), DEFAULT_LIMIT)


def max_stream_positions(config: PreTrainedConfig) -> int:
    """The longest row in which every token sees all others and positions do not depend on other rows."""
    limits = [max_positions(config), attention_window(config), rope_limit(config)]
    return min(limit for limit in limits if limit is not None)


def attention_window(config: PreTrainedConfig) -> int | None:
    """How many tokens back a token sees, if some layers see less than the whole row."""
    config = config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None) or ()
    slides = any("sliding" in kind or "chunked" in kind for kind in kinds)
    if not kinds:
        slides = getattr(config, "use_sliding_window", True) is not False
    endings = ("window", "window_size", "attention_chunk_size", "local_attention")
    sizes = [size for name, size in vars(config).items() if name.endswith(endings)]
    given = [size for size in sizes if isinstance(size, int) and size > 0]
    return min(given) if slides and given else None


def rope_limit(config: PreTrainedConfig) -> int | None:
    """The longest row with fixed rotary embeddings, if longer rows change those of all rows they run with."""
    config = config.get_text_config(decoder=True)
    if not rope_depends_on_length(config):
        return None
    limits = [of.get("original_max_position_embeddings") for of in _rope_parameters(config)]
    limits += [getattr(config, "original_max_position_embeddings", None), config.max_position_embeddings]
    return min(limit for limit in limits if isinstance(limit, int))


def rope_depends_on_length(config: PreTrainedConfig) -> bool:
    """Whether a long row changes the rotary embeddings of all rows that run with it."""
    return any(of.get("rope_type") in ("longrope", "dynamic") for of in _rope_parameters(config))


def _rope_parameters(config: PreTrainedConfig) -> list[dict[str, object]]:
    given = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    nested = [of for of in given.values() if isinstance(of, dict)]
    return nested or [given]
