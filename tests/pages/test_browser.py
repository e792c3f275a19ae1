"""The pages in a real browser: quick, quiet, without a request, by keyboard, on any screen, in light and dark."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from deeprag_graph.ledger import Record
from deeprag_graph.pages import summary_page, tree_page
from tests.pages.conftest import Open
from tests.pages.records import bridge, chain, hostile, node, real, record, wide

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ONE = record([node(0, -1, outcome="right")], id="one")
WORLD = real(40)
LARGEST = max(WORLD, key=lambda found: len(found["nodes"]))
PAGES = {
    "one node": tree_page(ONE),
    "no node": tree_page(record([])),
    "each outcome": tree_page(bridge()),
    "500 nodes": tree_page(wide(500)),
    "30 steps": tree_page(chain(30)),
    "a real search": tree_page(LARGEST),
    "hostile": tree_page(hostile()),
    "a ledger": summary_page([*WORLD, bridge(), chain(12)], "trees.jsonl"),
    "a hostile ledger": summary_page([hostile(), bridge()], "trees.jsonl"),
    "an empty ledger": summary_page([], "trees.jsonl"),
}
pages = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())

# The lowest contrast of a text with what is behind it, and that text (WCAG 2, relative luminance).
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let worst = [99, ""];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || element.closest("script, style, svg") || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < worst[0]) worst = [contrast, text];
  }
  return worst;
}"""


def overflow(page: Page) -> int:
    """Return how many pixels of the page one would have to scroll to the side for."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def focused(page: Page) -> str:
    """Return the id of the entry, or else of the element, that has the focus."""
    return str(page.evaluate("(document.activeElement.closest('.entry') ?? document.activeElement).id"))


def shown(page: Page) -> int:
    """Return how many entries can be seen."""
    heads = "[...document.querySelectorAll('.entry > details > summary')]"
    return int(page.evaluate(f"{heads}.filter((head) => head.checkVisibility()).length"))


@pages
def test_a_page_opens_without_a_word_or_a_request(page: str, open_page: Open) -> None:
    expect(open_page(page).locator("h1")).to_be_visible()


@pages
@pytest.mark.parametrize("width", [320, 400, 1600])
def test_nothing_has_to_be_scrolled_sideways(page: str, width: int, open_page: Open) -> None:
    opened = open_page(page, width=width)
    assert overflow(opened) == 0
    if opened.get_by_role("button", name="Expand all").count():
        opened.get_by_role("button", name="Expand all").click()
        assert overflow(opened) == 0


@pages
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page: str, scheme: Any, open_page: Open) -> None:
    opened = open_page(page, color_scheme=scheme)
    contrast, text = opened.evaluate(CONTRAST)
    assert contrast >= 4.5, text


def test_dark_pages_are_dark_and_light_ones_light(open_page: Open) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    assert open_page(PAGES["one node"], color_scheme="dark").evaluate(background) == "rgb(20, 23, 27)"
    assert open_page(PAGES["one node"], color_scheme="light").evaluate(background) == "rgb(252, 252, 251)"


def test_five_hundred_nodes_open_and_expand_at_once(open_page: Open) -> None:
    page = open_page(PAGES["500 nodes"])
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    expanded = page.evaluate(
        "() => { const began = performance.now(); document.querySelector('[data-show=all]').click();"
        " document.body.getBoundingClientRect(); return performance.now() - began; }"
    )
    print(f"500 nodes: {len(PAGES['500 nodes']):,} characters, open in {loaded:.0f} ms, expanded in {expanded:.0f} ms")
    assert shown(page) == 500
    assert loaded < 1_500
    assert expanded < 1_000


def test_only_the_path_is_open_at_first_and_buttons_open_and_close(open_page: Open) -> None:
    page = open_page(PAGES["500 nodes"])
    opened = "document.querySelectorAll('.entry > details[open]').length"
    assert page.evaluate(opened) == 9  # 8 decisions lead to the answer
    assert shown(page) == 16  # these, and what hangs beside them; beside the last one, nothing was tried
    for name, number in (("Expand all", 500), ("Collapse all", 0), ("Only the path", 9)):
        page.get_by_role("button", name=name).click()
        assert page.evaluate(opened) == number


def test_arrow_keys_home_and_end_move_in_the_outline(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"])
    page.locator("#node-0 > details > summary").focus()
    for key, entry in (
        *(("ArrowDown", "node-1"), ("ArrowDown", "node-4"), ("ArrowUp", "node-1"), ("ArrowUp", "node-0")),
        *(("ArrowUp", "node-0"), ("End", "node-5"), ("ArrowDown", "node-5"), ("Home", "node-0")),
    ):
        page.keyboard.press(key)
        assert focused(page) == entry, key


def test_arrow_keys_to_the_sides_open_and_close_entries(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"])
    page.locator("#node-1 > details > summary").focus()
    assert shown(page) == 4
    page.keyboard.press("ArrowRight")
    assert (shown(page), focused(page)) == (6, "node-1")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "node-2"
    page.keyboard.press("ArrowLeft")  # it was closed: up to its parent
    assert focused(page) == "node-1"
    page.keyboard.press("ArrowLeft")
    assert (shown(page), focused(page)) == (4, "node-1")
    page.keyboard.press("Enter")
    assert shown(page) == 6


def test_the_focus_can_be_seen(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"])
    page.locator("#node-0 > details > summary").focus()
    page.keyboard.press("ArrowDown")
    style = page.evaluate(
        "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
    )
    assert style == ["solid", "3px"]


def test_the_first_tab_stop_skips_to_the_outline(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page) == "node-0"


def test_a_click_in_the_picture_leads_to_the_entry_and_opens_what_it_lies_in(open_page: Open) -> None:
    page = open_page(PAGES["500 nodes"])
    page.locator(".picture a[href='#node-400']").click()
    assert focused(page) == "node-400"
    expect(page.locator("#node-400 > details > summary")).to_be_in_viewport()
    assert page.url.endswith("#node-400")


def test_arrow_keys_move_in_the_picture_and_enter_leads_to_the_entry(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"])
    page.locator(".picture a[href='#node-0']").focus()
    at = "document.activeElement.getAttribute('href')"
    for key, link in (
        *(("ArrowDown", 1), ("ArrowRight", 4), ("ArrowLeft", 1), ("ArrowDown", 2), ("ArrowRight", 3)),
        *(("ArrowUp", 1), ("ArrowUp", 0), ("ArrowUp", 0), ("End", 5), ("Home", 0), ("ArrowDown", 1)),
    ):
        page.keyboard.press(key)
        assert page.evaluate(at) == f"#node-{link}", key
    page.keyboard.press("Enter")
    assert focused(page) == "node-1"


def test_a_page_opened_at_a_node_shows_it(open_page: Open) -> None:
    page = open_page(PAGES["500 nodes"])
    page.goto(page.url + "#node-300")
    page.reload()
    assert focused(page) == "node-300"
    expect(page.locator("#node-300 > details > summary")).to_be_in_viewport()


def test_passages_are_shown_where_they_are_cited_on_demand(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"])
    cited = page.locator("#node-4 .passages").first
    expect(cited.get_by_text("crosses the River Ems")).not_to_be_visible()
    cited.locator("summary").click()
    expect(cited.get_by_text("crosses the River Ems")).to_be_visible()
    cited.get_by_role("link", name="Long Bridge").click()
    assert focused(page) == "passage-1"


def test_a_screen_reader_hears_levels_states_and_the_optimal_path(open_page: Open) -> None:
    heard = open_page(PAGES["each outcome"]).locator("main").aria_snapshot()
    assert 'list "Outline of the tree"' in heard
    assert "listitem [level=3]" in heard
    assert "retrieve → the Ems optimal path asks Into which sea" in heard
    assert 'link "Node 5, after parametric, right, on the optimal path"' in heard
    assert 'group "What is open"' in heard


def test_without_a_script_all_is_there_and_opens(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"], java_script_enabled=False)
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.locator("#node-5 > details > summary")).to_be_visible()
    expect(page.locator("#node-2 > details > summary")).not_to_be_visible()
    page.locator("#node-1 > details > summary").click()
    expect(page.locator("#node-2 > details > summary")).to_be_visible()
    expect(page.locator("#passage-1")).to_be_visible()
    expect(page.locator(".picture svg")).to_be_visible()


@pytest.mark.parametrize("name", ["hostile", "a hostile ledger"])
def test_hostile_text_does_not_run(name: str, open_page: Open) -> None:
    page = open_page(PAGES[name])
    for button in page.get_by_role("button").all():
        button.click()
    page.evaluate("for (const closed of document.querySelectorAll('details')) closed.open = true")
    for link in page.get_by_role("link").all():
        link.focus()
    assert page.evaluate("window.hit") is None
    expect(page.locator("img")).to_have_count(0)


def test_a_script_that_got_into_the_page_would_not_run_either(browser: Any, tmp_path: Any) -> None:
    broken = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'><style>body { color: red }</style>"
    (tmp_path / "page.html").write_text(PAGES["one node"].replace("</main>", f"{broken}</main>"), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("window.hit") is None
    assert page.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
    page.close()


def test_printing_leaves_the_controls_out_and_is_dark_on_light(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"], color_scheme="dark")
    page.emulate_media(media="print")
    expect(page.locator(".controls")).not_to_be_visible()
    contrast, text = page.evaluate(CONTRAST)
    assert contrast >= 4.5, text
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(page.pdf()) > 10_000


def test_nothing_moves_where_motion_is_not_wanted(open_page: Open) -> None:
    page = open_page(PAGES["each outcome"], reduced_motion="reduce")
    duration = "getComputedStyle(document.querySelector('.entry summary'), '::before').transitionDuration"
    assert page.evaluate(duration) == "0s"


def questions(page: Page) -> list[str]:
    return page.locator(".questions tbody tr:visible .id").all_inner_texts()


def test_questions_are_filtered_by_words_id_and_outcome(open_page: Open) -> None:
    page = open_page(PAGES["a ledger"])
    assert len(questions(page)) == 42
    page.get_by_label("Words or id").fill("long BRIDGE")
    assert questions(page) == ["bridge", "chain"]
    expect(page.get_by_role("status")).to_have_text("2 of 42 questions")
    page.get_by_label("Words or id").fill("q1")
    page.get_by_role("combobox", name="Outcome").select_option("unsolved")
    unsolved = [found["id"] for found in WORLD if found["outcome"] == "unsolved" and "q1" in found["id"]]
    assert questions(page) == unsolved


def test_questions_are_sorted_by_a_column_and_those_without_a_number_come_last(open_page: Open) -> None:
    page = open_page(PAGES["a ledger"])
    cost = page.get_by_role("button", name="Cost")
    expected = sorted(found["cost"] for found in (*WORLD, bridge(), chain(12)) if found["cost"] is not None)
    for order, state in ((expected, "ascending"), (expected[::-1], "descending")):
        cost.click()
        shown = page.locator(".questions tbody tr td:nth-child(3)").all_inner_texts()
        assert shown == [*map(str, order), *["–"] * (42 - len(order))]
        expect(page.get_by_role("columnheader", name="Cost")).to_have_attribute("aria-sort", state)


def test_two_thousand_questions_open_at_once(open_page: Open) -> None:
    found: Record = bridge()
    page = open_page(summary_page((found for _ in range(2_000)), "many.jsonl"))
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 1_500
