"""A chat service on loopback that produces faults on request and records its requests."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

THOUGHT = "Visual Scene: Not helpful\nEmotion: worry\nSituation: Unknown\nResponse Strategy: I should find out more."


# a client's settings, quick enough for tests
QUICK = {
    "model": "stub", "api_key_env": None, "temperature": 0.0, "max_tokens": 50, "max_tokens_key": "max_tokens",
    "image_detail": "auto", "frame_tokens": 255, "requests_per_minute": 6e5, "max_concurrent_requests": 4, "timeout_seconds": 5.0,
    "retries": 3, "backoff_seconds": 0.01, "max_wait_seconds": 2.0, "give_up_after": 5, "max_requests": None, "max_cost": None,
    "price_prompt": None, "price_completion": None, "dry_run": False, "batch_requests": None, "batch_results": None,
}  # fmt: skip


class FaultyServer(ThreadingHTTPServer):
    """Serves `/v1/chat/completions`. Each of `faults` replaces one response, in order; then responses are valid. `say` makes a
    response's text from a request's body; `delay` is the seconds that a response takes.

    requests: bodies in order of arrival · authorizations: their headers · arrivals: times in seconds
    """

    daemon_threads = True

    def __init__(self, say, faults, delay):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.say, self.faults, self.delay = say, list(faults), delay
        self.lock = threading.Lock()
        self.requests, self.authorizations, self.arrivals, self.answered = [], [], [], []
        self.busy = self.most_busy = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def distinct(self):
        return {hashlib.sha256(json.dumps(body).encode()).hexdigest() for body in self.requests}

    def handle_error(self, request, client_address):
        """Some tests close the connection early."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(body)
            server.authorizations.append(self.headers.get("Authorization"))
            server.arrivals.append(time.monotonic())
            fault = server.faults.pop(0) if server.faults else None
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
        try:
            if self.path != "/v1/chat/completions":
                self.send(404, b"no such path")
            elif fault is None:
                time.sleep(server.delay)
                self.send(200, json.dumps(completion(server.say(body))).encode())
                with server.lock:
                    server.answered.append(body)
            else:
                fault(self, body)
        finally:
            with server.lock:
                server.busy -= 1

    def send(self, status, content, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def completion(text, **message):
    return {
        "model": "stub-2026",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def status(code, text="", headers=()):
    return lambda handler, body: handler.send(code, json.dumps({"error": {"message": text}}).encode(), headers)


def raw(content):
    return lambda handler, body: handler.send(200, content)


def half_a_body(handler, body):
    content = json.dumps(completion("never arrives whole")).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.close()


def dribble(handler, body, code=200):
    """A byte every 50 ms: no single wait is long, the whole response takes very long."""
    handler.send_response(code)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def dribble_error(handler, body):
    dribble(handler, body, code=500)


@contextmanager
def serving(say=lambda body: THOUGHT, faults=(), delay=0.0):
    server = FaultyServer(say, faults, delay)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
