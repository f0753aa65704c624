"""Which papers' claims hold here: `python -m experiments.methods.claims` writes two tables.

claims.md is of runs at equal budgets, claims_at_defaults.md of methods that have none and so run at their
default rates. These start from earlier runs and were trained on a CPU; they are compared with prompt tuning
there (source_runs/, from which XPrompt's prompts were pruned), not with that of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.matrix import Groups, Label, Question, differences
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord

HERE = Path(__file__).parent
ANY = ""
AT_DEFAULTS = ("runs", "ppt_runs")
CPU = "prompt_tuning on a CPU"
SAVED = "softcue.prompts.saved_initialiser.Saved"
CLAIMS = (
    (
        "prefix_tuning",
        "prompt_tuning",
        "keys and values in every layer beat embeddings (2101.00190, Table 4)",
    ),
    (
        "prefix_tuning_projected",
        "prefix_tuning",
        "a prefix trains better through an MLP (2101.00190, section 4.3)",
    ),
    ("p_tuning", "prompt_tuning", "an MLP helps to train a prompt (2103.10385)"),
    ("p_tuning_lstm", "prompt_tuning", "an LSTM helps to train a prompt (2103.10385)"),
    ("p_tuning_anchored", "p_tuning", "anchor words among the virtual tokens help (2103.10385)"),
    ("residual", "prompt_tuning", "a residual MLP helps to train a prompt (2305.03937)"),
    ("superposition", "residual", "mixtures of words beat residual prompts (2406.05279)"),
    ("low_rank", "prompt_tuning", "a product of two small matrices is as good or better (2310.10094)"),
    ("late", "prompt_tuning", "prompts that enter a middle layer are better (2210.11292)"),
    ("cpt", "prompt_tuning", "trained demonstrations beat prompts that start otherwise (2410.17222)"),
    (
        "cartridge",
        "prefix_tuning",
        "a text's keys and values, with a frozen sink, are the better start (2506.06266)",
    ),
    ("prefix_tuning_gated", "prefix_tuning", "gates that start at zero help a prefix (2303.16199)"),
    ("smop", "prompt_tuning", "a router over short prompts beats one prompt (2310.05149)"),
    ("idpg", "prompt_tuning", "a prompt for each row beats one for all (2204.04497)"),
    ("dept", "prompt_tuning", "a shorter prompt and offsets on words are better (2309.05173)"),
)
"""Ahead, behind, and what a paper found."""
CLAIMS_AT_DEFAULTS = (
    ("ppt", CPU, "pre-training on next sentences gives the better start (2109.04332)"),
    ("xprompt", CPU, "a prompt that is pruned and trained again is better (2210.04457)"),
    ("attempt", CPU, "a mixture of source prompts for each row is better (2205.11961)"),
    ("prefix_tuning", "prefix_tuning_late", "keys and values in more layers are better (2110.07602)"),
)


def label(record: RunRecord) -> Label:
    """The method; prompt tuning from a saved prompt is that of `chain=ppt`."""
    return name(record), ANY


def name(record: RunRecord) -> str:
    """The record's method, or the chain that it is the end of."""
    start = record.settings["prompt"].get("initialiser") or {}
    return "ppt" if start.get("_target_") == SAVED else record.method


def label_with_cpu(record: RunRecord) -> Label:
    """The method; plain prompt tuning is that of a GPU or of a CPU."""
    on_cpu = record.settings["trainer"]["accelerator"] == "cpu"
    return (CPU if on_cpu and name(record) == "prompt_tuning" else name(record)), ANY


def table(
    runs: Sequence[str], claims: Sequence[tuple[str, str, str]], label: Callable[[RunRecord], Label]
) -> str:
    """A line for each claim; Holm's adjustment is over all that were run."""
    questions = [
        Question(words=f"{claim}: `{first}` ahead of `{second}`", first=(first, ANY), second=(second, ANY))
        for first, second, claim in claims
    ]
    return differences(Groups.read([HERE / folder for folder in runs], label), questions)


if __name__ == "__main__":
    write_atomic(HERE / "claims.md", table(["tuned_runs"], CLAIMS, label))
    at_defaults = table([*AT_DEFAULTS, "source_runs"], CLAIMS_AT_DEFAULTS, label_with_cpu)
    write_atomic(HERE / "claims_at_defaults.md", at_defaults)
