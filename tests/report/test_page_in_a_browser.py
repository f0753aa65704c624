"""The page in Debian's Chromium, opened from disk as a reader would."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from softcue.report.page.render import page as page_text
from tests.report.comparisons import make_comparison, make_rows, make_task

CHROMIUM = shutil.which("chromium")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script> @united"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A page with what it said and asked for since it was opened."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_text(make_comparison(make_task(rows=make_rows(60, first_text=HOSTILE)))))
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    """The page in a wide, light window; nothing may be asked for or complained about."""
    page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
    page.set_default_timeout(5000)
    opened = Opened(page=page)
    page.on("console", lambda message: opened.console.append(message.text))
    page.on("pageerror", lambda error: opened.console.append(str(error)))
    page.on("dialog", lambda dialog: opened.console.append(dialog.message))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(file.as_uri())
    yield opened
    assert opened.console == []
    assert {url for url in opened.requests if not url.startswith("data:")} == {file.as_uri()}
    page.close()


def first_column(page: Page) -> list[str]:
    return [text.strip() for text in page.locator("#cells-0 tbody tr:visible th").all_inner_texts()]


def texts(page: Page) -> list[str]:
    return page.locator(".rows .words").all_inner_texts()


def test_a_heading_sorts_the_table_both_ways(opened: Opened) -> None:
    as_written = first_column(opened.page)
    heading = opened.page.get_by_role("button", name="macro-F1")
    heading.click()
    assert first_column(opened.page) == as_written
    heading.click()
    assert first_column(opened.page) == as_written[::-1]
    assert opened.page.locator("#cells-0 th[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_the_filter_keeps_lines_with_every_word(opened: Opened) -> None:
    box = opened.page.get_by_label("Filter").first
    box.fill("tuning behind")
    assert set(first_column(opened.page)) < {"prompt_tuning", "p_tuning", "prefix_tuning"}
    box.fill("tfidf")
    assert first_column(opened.page) == ["tfidf"]
    assert opened.page.locator("[data-count]").first.inner_text() == "1 of 4"


def test_search_finds_rows_by_their_words_and_a_hostile_text_stays_text(opened: Opened) -> None:
    opened.page.get_by_text("All rows").click()
    opened.page.get_by_label("Search").fill("onerror @united")
    assert texts(opened.page) == [HOSTILE]
    opened.page.locator(".row").click()
    assert opened.page.locator("main img").count() == 0
    assert opened.page.locator("script").count() == 2


def test_an_example_opens_with_every_methods_probabilities_and_closes(opened: Opened) -> None:
    row = opened.page.locator(".row").first
    row.focus()
    opened.page.keyboard.press("Enter")
    assert row.get_attribute("aria-expanded") == "true"
    verdicts = opened.page.locator(".verdict")
    assert sorted(verdicts.locator("h5 span:first-child").all_inner_texts()) == sorted(
        first_column(opened.page)
    )
    shares = [float(text) for text in verdicts.first.locator(".bars .number").all_inner_texts()]
    assert sum(shares) == pytest.approx(1, abs=0.011)
    opened.page.keyboard.press("Enter")
    assert verdicts.count() == 0


def test_rows_are_those_that_the_kind_and_the_choices_name(opened: Opened) -> None:
    page = opened.page
    right = page.locator(".row .count")
    page.get_by_text("All wrong").click()
    assert set(right.all_inner_texts()) <= {"0 of 4 right"}
    page.get_by_text("Wrong and confident").click()
    page.get_by_label("Right", exact=True).select_option("prompt_tuning")
    page.get_by_label("Wrong", exact=True).select_option("tfidf")
    counts = right.all_inner_texts()
    assert counts
    assert {"0 of 4 right", "4 of 4 right"} & set(counts) == set()


def test_pages_of_rows_follow_each_other(opened: Opened) -> None:
    opened.page.get_by_text("All rows").click()
    first = texts(opened.page)
    opened.page.get_by_role("button", name="Next").click()
    assert opened.page.locator(".pages span").inner_text() == "21–40 of 60"
    assert not set(first) & set(texts(opened.page))
    opened.page.get_by_role("button", name="Previous").click()
    assert texts(opened.page) == first


def test_the_button_switches_the_theme_and_the_plots_follow(opened: Opened) -> None:
    def colours() -> tuple[str, ...]:
        return tuple(
            str(opened.page.evaluate(f"getComputedStyle(document.querySelector('{of}')).{name}"))
            for of, name in (("body", "backgroundColor"), (".forest .wide svg text", "fill"))
        )

    light = colours()
    opened.page.locator(".theme").click()
    assert colours()[0] == "rgb(19, 20, 22)"
    assert colours() != light
    opened.page.locator(".theme").click()
    assert colours() == light


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_scrolls_sideways_but_tables_in_their_own_frame(opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 844})
    for summary in opened.page.locator("summary").all():
        summary.click()
    opened.page.locator(".row").first.click()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    assert opened.page.locator(".forest svg:visible").count() == 1
