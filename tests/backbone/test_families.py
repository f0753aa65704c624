"""Every family is compared with the oracle on the engine that runs it."""

from __future__ import annotations

import pytest

from softcue.backbone.families import VERIFIED
from softcue.errors import BackboneError
from tests.backbone.encoder_decoder_table import HEADING
from tests.backbone.family_table import PAGE, TOLERANCE, Measured, families, measure

BY_DEFAULT = (
    *("bloom", "deepseek_v3", "diffllama", "gemma2", "gpt2", "gpt_neox", "llama", "mamba", "nemotron"),
    *("phi3", "qwen3", "falcon, alibi", "llama, longrope", "mistral, window of 16"),
    *("opt, projected embeddings", "qwen2_moe, window of 0"),
)
"""The families of the most used models, and one of each special kind; the others are marked slow."""


def rows_of_page() -> dict[str, list[str]]:
    """The page's table, by family."""
    table = PAGE.read_text().partition(HEADING)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: rest for name, *rest in cells}


def assert_exact(found: Measured) -> None:
    differing = {
        name: value
        for name, value in (found.scores | {f"gradients {k}": v for k, v in found.gradients.items()}).items()
        if not value <= TOLERANCE
    }
    assert differing == {}


def refused_on_page() -> dict[str, str]:
    """The message for each refused family, by family."""
    lines = PAGE.read_text().partition("## Refused")[2].partition("## Not tried")[0].splitlines()
    pairs = [line.removeprefix("- `").partition("`: ") for line in lines if line]
    return {name: message for name, _, message in pairs}


def assert_as_on_page(family: str) -> None:
    found = measure(family)
    assert_exact(found)
    engine, _, _, prefix, _ = rows_of_page()[family]
    assert found.engine == engine
    assert (found.prefix_refusal is not None) == prefix.startswith("no: ")


@pytest.mark.parametrize("family", BY_DEFAULT)
def test_a_family_gives_the_results_of_its_own_forward(family: str) -> None:
    assert_as_on_page(family)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(set(rows_of_page()) - set(BY_DEFAULT)))
def test_a_rarer_family_gives_the_results_of_its_own_forward(family: str) -> None:
    assert_as_on_page(family)


@pytest.mark.parametrize("family", refused_on_page())
def test_a_refused_family_is_refused_with_the_message_on_the_page(family: str) -> None:
    with pytest.raises(BackboneError) as raised:
        measure(family)
    assert str(raised.value) == refused_on_page()[family]


@pytest.mark.parametrize("family", ["bloom", "gpt2", "llama", "llama, longrope", "phi3, longrope"])
def test_the_plain_engine_gives_the_results_of_the_oracle(family: str) -> None:
    found = measure(family, engine="plain")
    assert found.engine == "plain"
    assert_exact(found)
    assert "beside a long row" in found.scores


def test_the_page_lists_every_family_that_is_tried() -> None:
    text = PAGE.read_text()
    assert [name for name in families() if f"| {name} |" not in text and f"`{name}`" not in text] == []


def test_the_page_counts_its_rows_and_names_the_verified_families() -> None:
    text = " ".join(PAGE.read_text().split())
    engines = [engine for engine, *_ in rows_of_page().values()]
    stream, plain = engines.count("stream"), engines.count("plain")
    assert (
        f"Of the {len(engines)} families and variants in the table, {stream} run on stream and {plain} on "
        f"plain; {len(refused_on_page())} families are refused."
    ) in text
    verified = ", ".join(f"`{name}`" for name in VERIFIED)
    assert f"the families that the tests verify ({verified})," in text
    assert {rows_of_page()[family][0] for family in VERIFIED} == {"stream"}
