"""debug=show: one real row, each token named for what it is and when it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from softcue.build.data import build_data
from softcue.build.prompted import build_prompted_backbone
from softcue.errors import ConfigError
from softcue.inspect.row import Token, render, tokens_of_first_row
from tests.running import train_one

Compose = Callable[..., DictConfig]


def shown(settings: DictConfig) -> list[Token]:
    data = build_data(settings)
    lm, prompt = build_prompted_backbone(settings, data)
    return tokens_of_first_row(lm, prompt().detach(), data)


def test_a_prefix_and_the_words_all_rows_share_run_once_for_the_batch(quickstart: Compose) -> None:
    tokens = shown(quickstart("prompt.layout='[soft:3]{input}'"))
    real = [token for token in tokens if token.kind != "pad"]
    assert [token.kind for token in real[:4]] == ["virtual"] * 3 + ["template"]
    assert {token.run for token in real[:7]} == {"shared prefix"}
    assert "".join(token.text for token in real if token.kind == "template").startswith("Tweet text :")
    assert [token.run for token in tokens if token.kind == "pad"] == ["not run"] * tokens.index(real[0])
    assert [token.kind for token in real if token.run == "not run"] == ["label"]


def test_anchors_stand_among_virtual_tokens_and_text_ahead_of_them_is_kept(quickstart: Compose) -> None:
    tokens = [token for token in shown(quickstart("prompt=p_tuning_anchored")) if token.kind != "pad"]
    kinds = Counter(token.kind for token in tokens)
    assert kinds["virtual"] == 20
    assert "complaint ?" in "".join(token.text for token in tokens if token.kind == "template")
    suffixed = [token for token in shown(quickstart("prompt=prompt_tuning_suffix")) if token.kind != "pad"]
    first_virtual = [token.kind for token in suffixed].index("virtual")
    assert {token.run for token in suffixed[:first_virtual]} == {"static context"}


def test_keys_and_values_do_not_run(quickstart: Compose) -> None:
    tokens = shown(quickstart("prompt=prefix_tuning"))
    assert {token.run for token in tokens if token.kind == "virtual"} == {"not run"}


def test_showing_prints_the_row_and_leaves_nothing_behind(
    quickstart: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_one(quickstart("debug=show", "prompt=p_tuning_infix"))
    printed = capsys.readouterr().out
    assert "20 virtual" in printed
    assert "[v19]" in printed
    assert "once a step for all rows of the batch" in printed
    assert not folder.path.exists()


def test_a_baseline_has_no_tokens_to_show(quickstart: Compose) -> None:
    with pytest.raises(ConfigError, match="tfidf is a baseline"):
        train_one(quickstart("debug=show", "prompt=baseline/tfidf"))


def test_the_rendered_row_holds_a_line_for_each_token(quickstart: Compose) -> None:
    tokens = shown(quickstart())
    table = render(tokens, "layout").renderables[2]
    assert getattr(table, "row_count", 0) == len(tokens)
