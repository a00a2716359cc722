"""Every page in a real browser, on a desk and on a phone, light and dark: complete, readable, without requests or errors.

Accessibility is what axe-core finds, and the contrast of words in figures, which axe can't tell.
"""

import json

import pytest
from browser import AXE, PASSED, VIOLATIONS
from paper.synthetic_sweep import EXPERIMENTS, write_study_result, write_sweep
from report.synthetic_run import write_run

from fires_exp.cli.report import main
from fires_exp.report.page import write_page

DESK, PHONE = (1280, 900), (390, 844)
LEAST_CONTRAST = 4.5  # WCAG 2.2, AA, for letters of this size
# the contrast of each text of a figure with what is painted below it
CONTRASTS = """(() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = color => {
    const [red, green, blue] = color.map(part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const painted = element => {
    const style = getComputedStyle(element);
    const color = rgb(element instanceof SVGElement ? (element.tagName === 'svg' ? '' : style.fill) : style.backgroundColor);
    return color.length === 3 ? color : null;
  };
  const contrasts = {};
  for (const text of document.querySelectorAll('svg text')) {
    text.scrollIntoView({block: 'center', behavior: 'instant'});
    const box = text.getBoundingClientRect();
    const below = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2).filter(item => !text.contains(item));
    const ground = below.map(painted).find(color => color);
    const [dark, bright] = [light(rgb(getComputedStyle(text).fill)), light(ground)].sort((first, second) => first - second);
    contrasts[text.textContent.trim()] = (bright + 0.05) / (dark + 0.05);
  }
  return contrasts;
})()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory, study):
    runs = tmp_path_factory.mktemp("runs")
    sweep = write_sweep(runs / "table2_components" / "demo", ["fires", "wo_sft", "wo_rl"], instances=12)
    assert main([str(EXPERIMENTS / "table2_components"), "--runs", str(sweep)]) == 0
    write_run(runs / "figure3" / "demo")
    write_study_result(runs / "human_eval" / "one", "w/o RL", 0.5, "usefulness")
    assert main(["paper", "--runs", str(runs), "--experiments", str(EXPERIMENTS)]) == 0
    return {
        "run": write_page(write_run(runs / "single")),
        "experiment": sweep / "report" / "report.html",
        "paper": runs / "paper" / "demo" / "report.html",
        "human_eval": study / "rate.html",
    }


@pytest.fixture(params=["run", "experiment", "paper", "human_eval"])
def shown(request, pages, browser, tmp_path):
    """The browser with the page, whose texts are attempts at markup; none of it runs and nothing is requested."""
    path = pages[request.param]
    browser.size(*DESK)
    browser.open(path)
    browser.start_over(tmp_path)
    browser.open(path)
    if request.param == "human_eval":
        begin_to_rate(browser)
    yield browser
    assert browser.problems == []
    assert [address for address in browser.requests if not address.startswith(("data:", "blob:"))] == [path.as_uri()]


def begin_to_rate(browser):
    """Close the first words, which hide all else, and answer two questions, after which thoughts are shown."""
    browser.press("Escape")
    browser.wait_for("!document.querySelector('dialog[open]')")
    browser.press("1", "1")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_page_passes_axe_and_is_no_wider_than_the_screen(shown, size, dark):
    shown.size(*size, dark=dark)
    shown.value(AXE + "; 0")
    assert shown.value(VIOLATIONS) == []
    assert {"color-contrast", "html-has-lang", "landmark-one-main", "heading-order"} <= set(shown.value(PASSED))
    assert shown.value("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["run", "experiment"])
def test_words_in_figures_stand_out_from_what_is_below_them(pages, browser, name, dark):
    browser.size(*DESK, dark=dark)
    browser.open(pages[name])
    contrasts = browser.value(CONTRASTS)
    assert len(contrasts) > 10
    assert {text: contrast for text, contrast in contrasts.items() if contrast < LEAST_CONTRAST} == {}


def test_the_first_words_of_the_raters_page_pass_axe_too(pages, browser, tmp_path):
    browser.size(*PHONE)
    browser.open(pages["human_eval"])
    browser.start_over(tmp_path)
    browser.open(pages["human_eval"])
    browser.wait_for("document.querySelector('#help').open")
    browser.value(AXE + "; 0")
    assert browser.value(VIOLATIONS) == []


def test_axe_reports_a_bad_page(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<!doctype html><title>x</title><img src="data:,"><p style="color:#bbb;background:#fff">pale</p>')
    browser.open(bad)
    browser.value(AXE + "; 0")
    rules = {one.partition(":")[0] for one in browser.value(VIOLATIONS)}
    assert {"html-has-lang", "image-alt", "color-contrast"} <= rules


def test_a_phone_scrolls_the_table_and_not_the_page_and_the_rows_keep_their_names(pages, browser):
    browser.size(*PHONE)
    browser.open(pages["experiment"])
    browser.value("document.querySelector('.cells').parentElement.scrollLeft = 200; 0")
    left = "document.querySelector('.cells tbody th').getBoundingClientRect().left"
    cell = "document.querySelector('.cells tbody td').getBoundingClientRect().left"
    assert browser.value(left) > 0 > browser.value(f"{cell} - 100")
    assert json.loads(browser.value("JSON.stringify([scrollX, document.documentElement.scrollWidth])")) == [0, PHONE[0]]
