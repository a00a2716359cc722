"""The raters' page in a real browser, by real keys. Skipped where there is no Chromium."""

import json

import pytest
from human_eval.study_files import ATTACK

from fires_exp.human_eval.files import read_key, read_ratings


@pytest.fixture
def page(browser, study, tmp_path):
    """The page as a rater sees it when its first words are closed."""
    browser.size(1280, 900)
    browser.open(study / "rate.html")
    browser.start_over(tmp_path)
    browser.open(study / "rate.html")
    escape(browser)
    yield browser
    assert browser.problems == []


def escape(page):
    """Close a dialog; Chromium does that a moment after the key."""
    page.press("Escape")
    page.wait_for("!document.querySelector('dialog[open]')")


def chosen(page, question):
    return page.value(f"(document.querySelector('input[name={question}]:checked') || {{}}).value ?? null")


def stored_ratings(page):
    return json.loads(page.value("localStorage.getItem(Object.keys(localStorage)[0])"))["ratings"]


def named(page, name="Ann"):
    page.click("#rater")
    page.press(*name, "Tab")


def test_a_whole_study_is_rated_by_keys_alone_and_read_back(page, study):
    for keys in (("1", "2", "3", "1"), ("a", "b", "t", "a"), ("3", "3", "3", "3")):
        page.press(*keys, "n")
    assert page.text("#count") == "3 of 3 rated"
    named(page)
    page.click("#export")
    (path,) = page.downloaded()
    ratings = read_ratings(path, read_key(study / "key.json"))
    assert ratings.rater == "Ann"
    assert [ratings.verdicts["i001", name] for name in ("support", "preference", "coherence", "usefulness")] == [
        "A",
        "B",
        "tie",
        "A",
    ]
    assert [ratings.verdicts["i002", name] for name in ("support", "preference", "coherence", "usefulness")] == [
        "A",
        "B",
        "tie",
        "A",
    ]
    assert {verdict for (item, _), verdict in ratings.verdicts.items() if item == "i003"} == {"tie"}
    assert path.name.startswith("ratings_")
    assert path.name.endswith("_ann.json")


def test_it_begins_with_the_instructions_and_they_open_again(page, study):
    page.open(study / "rate.html")
    assert page.value("document.querySelector('#help').open")
    escape(page)
    page.press("?")
    assert page.value("document.querySelector('#help').open")
    page.press("1")
    escape(page)
    assert page.text("#count") == "0 of 3 rated"
    assert chosen(page, "support") is None


def test_thoughts_are_hidden_until_the_responses_are_rated(page):
    assert page.value("document.querySelector('#thinking-now').hidden")
    page.press("1")
    assert page.value("document.querySelector('#thinking-now').hidden")
    page.press("1")
    assert not page.value("document.querySelector('#thinking-now').hidden")
    assert page.value("document.activeElement.id") == "ask-coherence"


def test_undo_goes_back_to_where_something_was_changed(page):
    page.press("1", "2", "n", "3")
    page.press("u")
    assert chosen(page, "support") is None
    page.press("u")
    assert page.text("#place") == "Instance 1 of 3"
    assert (chosen(page, "support"), chosen(page, "preference")) == ("A", None)
    page.press("3", "u", "u", "u")
    assert stored_ratings(page)["i001"] == {}
    assert "nothing to undo" in page.text("#say")


def test_ratings_outlive_the_page(page, study):
    named(page)
    page.press("1", "2", "n", "3")
    page.open(study / "rate.html")
    assert page.text("#place") == "Instance 2 of 3"
    assert chosen(page, "support") == "tie"
    assert page.value("document.querySelector('#rater').value") == "Ann"
    assert not page.value("document.querySelector('#help').open")
    page.press("u", "p")
    assert chosen(page, "preference") == "B"


def test_letters_of_a_name_are_not_verdicts(page):
    named(page, "bab tun")
    assert chosen(page, "support") is None
    assert page.value("document.querySelector('#rater').value") == "bab tun"


def test_single_keys_can_be_switched_off_and_the_form_still_works_by_tab_and_space(page):
    page.press("?")
    page.click("#keys")
    escape(page)
    page.press("1", "n")
    assert (chosen(page, "support"), page.text("#place")) == (None, "Instance 1 of 3")
    page.value("document.querySelector('#ask-support').focus()")
    page.press("Tab", " ")
    assert chosen(page, "support") == "A"
    page.press("ArrowRight")
    assert chosen(page, "support") == "B"


def test_an_export_needs_a_name_and_can_be_imported(page):
    page.press("1", "2")
    page.click("#export")
    assert "name first" in page.text("#say")
    assert page.value("document.activeElement.id") == "rater"
    page.press(*"Bo", "Tab")
    page.click("#export")
    (path,) = page.downloaded()
    page.click("#open-help")
    page.click("#clear")
    assert stored_ratings(page) == {}
    page.choose_file("#file", path)
    page.wait_for("document.querySelector('#say').innerText.startsWith('Imported')")
    assert stored_ratings(page) == {"i001": {"support": "A", "preference": "B"}}
    page.press("u")
    assert stored_ratings(page) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": "other"}, "these are ratings of study other"),
        ({"format": "x"}, "not a ratings file"),
        ({"ratings": {"i999": {"support": "A"}}}, "there is no instance i999"),
        ({"ratings": {"i001": {"support": "C"}}}, "i001: support cannot be C"),
        (None, "not JSON"),
    ],
)
def test_a_strange_file_is_not_imported(page, study, tmp_path, changes, message):
    page.press("1")
    file = {"format": "human-eval ratings 1", "study": read_key(study / "key.json").study, "rater": "x", "ratings": {}}
    path = tmp_path / "x.json"
    path.write_text("{" if changes is None else json.dumps(file | changes))
    page.choose_file("#file", path)
    page.wait_for("document.querySelector('#say').innerText.startsWith('Not imported')")
    assert message in page.text("#say")
    assert stored_ratings(page) == {"i001": {"support": "A"}}


def test_texts_of_systems_stay_texts_and_nothing_is_loaded(page):
    page.press("1", "1")
    shown = page.value("['A', 'B'].map((side) => document.getElementById(`thought-${side}`).textContent)")
    assert ATTACK in shown
    assert page.value("document.scripts.length") == 2
    assert not [address for address in page.requests if not address.startswith(("data:", "file:", "blob:"))]
    assert len([address for address in page.requests if address.startswith("file:")]) == 1  # itself


def test_the_policy_of_the_page_refuses_every_script_and_address_but_its_own(page):
    page.value("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'}))")
    page.value("fetch('http://127.0.0.1:9/').then(() => 1, () => 0)")
    assert page.value("window.hit === undefined")
    assert len(page.problems) >= 2
    page.problems.clear()
    assert not [address for address in page.requests if address.startswith("http:")]


def test_frames_are_shown_with_words_and_larger_on_a_click(page):
    while not page.value("document.querySelectorAll('.frames img').length"):
        page.press("n")
    picture = "document.querySelector('.frames img')"
    page.wait_for(f"{picture}.complete && {picture}.naturalWidth > 0")
    assert page.value(f"{picture}.alt").startswith("Frame 1 of ")
    page.click(".frames button")
    assert page.value("document.querySelector('#picture').open")
    escape(page)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen_and_buttons_are_large_enough_for_a_thumb(page, width):
    page.size(width, 800)
    page.press("1", "1")
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("Math.min(...[...document.querySelectorAll('.choices label')].map((one) => one.offsetHeight))") >= 44


def test_every_control_has_a_name(page):
    page.press("1", "1")
    tree = page.ask("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "radio", "textbox", "checkbox", "progressbar", "group", "image", "list", "dialog")
    controls = [node for node in tree if node.get("role", {}).get("value") in roles and not node.get("ignored")]
    nameless = [node["role"]["value"] for node in controls if not node.get("name", {}).get("value")]
    assert sum(node["role"]["value"] == "radio" for node in controls) == 12
    assert nameless == []


CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (one) => { for (; one; one = one.parentElement) { const c = parse(getComputedStyle(one).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const low = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !one.offsetParent || one.closest("[disabled], noscript, script")) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(one.outerHTML.slice(0, 80));
  }
  return low;
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground_by_4_5_to_1_in_both_themes(page, dark):
    page.size(1280, 900, dark=dark)
    page.press("1", "1")
    assert page.value("getComputedStyle(document.body).backgroundColor") == ("rgb(22, 24, 27)" if dark else "rgb(247, 246, 243)")
    assert page.value(CONTRAST) == []
