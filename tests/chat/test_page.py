"""The page in a real browser, and its server against other sites."""

import threading
import time

import httpx2
import pytest
import uvicorn
from browser import AXE, COMMAND, PASSED, VIOLATIONS, Browser

from fires_exp.chat.web import ChatServer, chat_app, is_loopback
from fires_exp.export.disclaimer import NOTICE

THOUGHT = "Emotion: <script>document.title = 'broken'</script>sadness"
RESPONSE = "<img src=x onerror=\"document.title = 'broken'\">That is <b>hard</b>. What happened?"
ANSWER = f"<think>\n{THOUGHT}\n</think>\n<response>{RESPONSE}</response>"


@pytest.fixture
def served(new_model):
    """The address of a page on loopback, at a free port; the server stops after the test."""
    model = new_model("frames=uniform", "frames.max_frames_per_turn=2", "max_video_megabytes=1")
    server = ChatServer(uvicorn.Config(chat_app(model, "127.0.0.1"), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if COMMAND is None:
        pytest.skip("no Chromium here")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def page(chromium, served):
    """The page, open and ready."""
    chromium.requests.clear()
    chromium.problems.clear()
    chromium.size(1280, 900)
    chromium.open(Address(served))
    chromium.wait_for("document.getElementById('notice').textContent !== ''")
    yield chromium
    assert chromium.problems == []
    assert {request.partition("/")[0] for request in chromium.requests} <= {"http:", "data:"}
    assert all(request.startswith((served, "data:")) for request in chromium.requests)


class Address:
    """An address in the form that `Browser.open` takes, a path."""

    def __init__(self, address):
        self.address = address

    def as_uri(self):
        return self.address


def send(page, text, turns):
    page.value("document.getElementById('text').focus()")
    page.ask("Input.insertText", text=text)
    page.press("Enter")
    page.wait_for(f"document.querySelectorAll('article').length === {turns} && !document.getElementById('send').disabled")


def test_the_page_shows_the_notice_folds_the_thought_and_takes_text_as_text(page, scripted):
    scripted(ANSWER, ANSWER)
    assert page.text("#notice") == NOTICE
    assert page.text("#model") == "tiny, zero_shot"
    send(page, "I lost my job.", turns=2)
    assert page.text("article.supporter > p") == RESPONSE
    assert page.value("document.querySelector('article.supporter details').open") is False
    page.click("article.supporter summary")
    assert page.value("document.querySelector('article.supporter details').open") is True
    assert page.text("article.supporter details p") == THOUGHT
    assert page.value("document.querySelectorAll('main img, main script, main b').length") == 0
    assert page.value("document.title") == "Chat with the model"
    send(page, "On Monday.", turns=4)
    page.click("#new")
    page.wait_for("document.querySelectorAll('article').length === 0")


def test_a_clip_is_sent_with_the_message(page, scripted, clip):
    prompts = scripted(ANSWER)
    page.choose_file("#video", clip)
    send(page, "Look at me.", turns=2)
    assert len(prompts[0].image_grid_thw) == 2
    assert page.text("article.supporter .aside") == "frames: 2"
    assert page.value("document.getElementById('video').value") == ""


def test_an_error_is_shown_and_the_message_stays_in_the_form(page, scripted, tmp_path):
    scripted("<response></response>")
    send(page, "Hello?", turns=2)
    assert page.text("article.problem > p") == "the model's response is empty; write the message in other words"
    assert page.value("document.getElementById('text').value") == "Hello?"


def test_nothing_is_wider_than_a_phone(page, scripted):
    scripted(ANSWER.replace("hard", "h" * 300))
    page.size(360, 740)
    send(page, "I lost my job.", turns=2)
    assert page.value("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desk", "phone"])
def test_a_conversation_passes_axe(page, scripted, size, dark):
    scripted(ANSWER, "<response></response>")
    page.size(*size, dark=dark)
    send(page, "I lost my job.", turns=2)
    page.click("article.supporter summary")
    send(page, "On Monday.", turns=4)  # ends with an error on the page
    page.value(AXE + "; 0")
    assert page.value(VIOLATIONS) == []
    assert {"color-contrast", "html-has-lang", "label", "landmark-one-main"} <= set(page.value(PASSED))
    assert page.value("document.documentElement.scrollWidth") <= size[0]


def test_other_sites_can_neither_start_a_conversation_nor_send_a_message(served, scripted):
    scripted(ANSWER)
    json_kind = {"content-type": "application/json"}
    plain = httpx2.post(f"{served}start", content="{}", headers={"content-type": "text/plain"})
    assert (plain.status_code, plain.json()) == (400, {"error": "a request must be JSON"})
    assert "access-control-allow-origin" not in httpx2.options(f"{served}start").headers
    rebound = httpx2.post(f"{served}start", content="{}", headers=json_kind | {"host": "evil.example"})
    assert rebound.status_code == 400
    for key in ("", "guess", None):
        response = httpx2.post(f"{served}send", json={"key": key, "text": "Hello."})
        assert response.json() == {"error": "this conversation is closed; reload the page"}
    assert "script-src 'self'" in httpx2.get(served).headers["content-security-policy"]


def test_replies_are_streamed_and_conversations_are_separate(served, scripted):
    scripted(ANSWER, ANSWER)
    keys = [httpx2.post(f"{served}start", json={}).json()["key"] for _ in range(2)]
    assert keys[0] != keys[1]
    for key in keys:
        lines = httpx2.post(f"{served}send", json={"key": key, "text": "Hello."}).text.splitlines()
        assert len(lines) > 10
        assert '"complete": true' in lines[-1]


def test_too_large_a_clip_and_too_long_a_text_are_refused(served):
    key = httpx2.post(f"{served}start", json={}).json()["key"]
    large = httpx2.post(f"{served}video", content=bytes(2**20 + 1), headers={"x-key": key})
    assert large.json() == {"error": "a clip can have 1 MB (max_video_megabytes)"}
    broken = httpx2.post(f"{served}video", content=b"no video", headers={"x-key": key})
    assert broken.json()["error"].startswith("the clip cannot be opened as a video")
    long = httpx2.post(f"{served}send", json={"key": key, "text": "a" * 2**16})
    assert long.json() == {"error": "the message is too long; write a shorter one"}


def test_loopback_addresses_are_recognized():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")] == [True] * 3 + [False] * 2
