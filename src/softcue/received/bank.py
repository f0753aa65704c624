"""The prompt of a received folder: of the same run as its record, and for the model at hand."""

from __future__ import annotations

from pathlib import Path

from softcue.contracts import BackboneSpec, PromptBank
from softcue.data.template import Soft
from softcue.errors import RunError
from softcue.formats.prompt_file import PROMPT, PromptFile, open_prompt
from softcue.formats.source import model_sizes, shape_of
from softcue.received.parts import Parts
from softcue.runs.record import RunRecord
from softcue.runs.store import RECORD


def read_bank(folder: Path, record: RunRecord, parts: Parts) -> PromptBank:
    """The prompt of one task, or all prompts of an ensemble.

    Raises:
        RunError: no prompt, a damaged one, or one that is not what the record describes.
    """
    count = parts.template.num_virtual_tokens
    if count == 0:
        return PromptBank()
    source = open_prompt(folder / PROMPT)
    _expect_described(source, record, parts)
    bank = source.bank()
    if set(bank.num_virtual_tokens) != {count}:
        raise _mixed(folder, "virtual tokens", list(bank.num_virtual_tokens), count)
    # One prompt may serve all tasks, and an ensemble votes on each.
    is_tasks_own = bank.vote is None and bank.num_prompts > 1
    return bank.member(parts.position) if is_tasks_own else bank


def expect_fits(bank: PromptBank, spec: BackboneSpec, *, folder: Path) -> None:
    """Refuse a prompt of other sizes than the model's; RunError names both."""
    shape = shape_of(bank)
    if shape.sizes and shape.sizes != (own := model_sizes(spec, shape)):
        raise RunError(
            f"{folder} holds a prompt for a model of {shape.sizes}, and {spec.name} has {own}; give the "
            "backbone it was trained on."
        )


def _expect_described(source: PromptFile, record: RunRecord, parts: Parts) -> None:
    """Compare the file's header with the record, before its numbers are read."""
    shape, folder, expected = source.shape, source.path.parent, parts.expected
    count, shipped = parts.template.num_virtual_tokens, record.parameters and record.parameters.shipped
    several = (1, len(parts.tasks)) if source.vote is None else None
    for what, found, possible in (
        ("virtual tokens", shape.num_tokens, (count,)),
        ("backbone", source.made_for, (record.backbone,)),
        ("layout", source.layout, (parts.layout,)),
        ("form", shape.form, expected.forms),
        ("number of prompts", shape.num_prompts, expected.num_prompts or several),
        ("vote", source.vote, expected.votes),
        ("row_rule", shape.row_rule, expected.row_rules),
        ("first layer", shape.first_layer, expected.first_layers),
        ("numbers", source.num_numbers, None if shipped is None else (shipped,)),
    ):
        if possible is not None and found not in possible:
            raise _mixed(folder, what, found, possible[0])
    if shape.form == "keys and values" and parts.template.segments[0] != Soft(num_tokens=count):
        raise _mixed(folder, "form", shape.form, f"one for layout {parts.layout}")


def _mixed(folder: Path, what: str, found: object, expected: object) -> RunError:
    return RunError(
        f"{folder}: {PROMPT} has {what} {found!r:.200}, and {RECORD} has {expected!r:.200}; copy both files "
        "again from one run."
    )
