"""A conversation on a page: a small server for the user of this machine.

Each page gets a random key to its own conversation. Other sites that are open in the same browser can neither read nor start one,
because requests must be JSON, which a browser sends to another origin only with that origin's permission. Replies are streamed as
lines of JSON. The page inserts all text as text, and loads nothing but its own files.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fires_exp.chat.session import ChatModel, ChatSession
from fires_exp.data.records import Clip
from fires_exp.errors import FiresError
from fires_exp.export.disclaimer import NOTICE

log = logging.getLogger("fires_exp.pipeline")

PAGE = Path(__file__).parent
FILES = {"": ("page.html", "text/html"), "page.css": ("page.css", "text/css"), "page.js": ("page.js", "text/javascript")}
MAX_SESSIONS = 16
MAX_REQUEST_BYTES = 2**16
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def serve(model: ChatModel, host: str, port: int) -> None:
    """Serve the page until Ctrl-C."""
    server = ChatServer(uvicorn.Config(chat_app(model, host), host=host, port=port, log_level="warning", access_log=False))
    if not is_loopback(host):
        log.warning("host=%s: everyone who can reach this machine can use the model, without a password", host)
    try:
        server.run()
    except KeyboardInterrupt:
        log.info("the server has stopped")


class ChatServer(uvicorn.Server):
    """Logs its address once it is listening."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            host, port = server.sockets[0].getsockname()[:2]
            log.info("open http://%s:%d in a browser; Ctrl-C stops the server", f"[{host}]" if ":" in host else host, port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def chat_app(model: ChatModel, host: str) -> Starlette:
    """The page and its requests. On a loopback address the host header must be a loopback name, which prevents DNS rebinding."""
    sessions = WebSessions(model)
    hosts = ["127.0.0.1", "localhost", "::1", "[::1]", host] if is_loopback(host) else ["*"]
    return Starlette(
        routes=[
            *(Route(f"/{path}", _file(name, media_type)) for path, (name, media_type) in FILES.items()),
            Route("/start", sessions.start, methods=["POST"]),
            Route("/video", sessions.video, methods=["POST"]),
            Route("/send", sessions.send, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={FiresError: _error_response},
    )


class WebSession:
    """A conversation, and the clip that belongs to its next message."""

    def __init__(self, model: ChatModel) -> None:
        self.chat = ChatSession(model)
        self.clip: Clip | None = None


class WebSessions:
    """The sessions of open pages by their key; beyond `MAX_SESSIONS`, the oldest is closed."""

    def __init__(self, model: ChatModel) -> None:
        self.model = model
        self._sessions: OrderedDict[str, WebSession] = OrderedDict()

    async def start(self, request: Request) -> Response:
        """Open a session: its key, and the texts of the page."""
        await _json_body(request)
        key = secrets.token_urlsafe()
        self._sessions[key] = WebSession(self.model)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return _json_response({"key": key, "notice": NOTICE, "model": self.model.name})

    async def video(self, request: Request) -> Response:
        """Receive the clip of the next message, as raw bytes."""
        session = self._session(request.headers.get("x-key", ""))
        path = self.model.uploads / secrets.token_hex(8)
        received_bytes = 0
        with path.open("wb") as file:
            async for chunk in request.stream():
                received_bytes += len(chunk)
                if received_bytes > self.model.max_video_bytes:
                    path.unlink()
                    raise FiresError(f"a clip can have {self.model.max_video_bytes >> 20} MB (max_video_megabytes)")
                file.write(chunk)
        try:
            session.clip = await run_in_threadpool(self.model.clip, path, "the clip")
        except FiresError:
            path.unlink()
            raise
        return _json_response({"seconds": session.clip.duration_seconds})

    async def send(self, request: Request) -> Response:
        """The reply to a message, as lines of JSON: what is generated so far, after each token, then the complete reply or an
        error."""
        message = await _json_body(request)
        session, text = self._session(message.get("key")), message.get("text")
        if not isinstance(text, str):
            raise FiresError("the message is empty; write something")
        return StreamingResponse(_reply_lines(session, text), media_type="application/x-ndjson", headers=SECURITY_HEADERS)

    def _session(self, key: object) -> WebSession:
        session = self._sessions.get(key) if isinstance(key, str) else None
        if session is None:
            raise FiresError("this conversation is closed; reload the page")
        return session


def _reply_lines(session: WebSession, text: str) -> Iterator[str]:
    """Generates in a thread, so that lines are sent meanwhile."""
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def generate() -> None:
        try:
            clip, session.clip = session.clip, None
            reply = session.chat.send(
                text, clip, lambda parsed: lines.put({"thought": parsed.thought, "response": parsed.response, "complete": False})
            )
            lines.put(
                {
                    "thought": reply.thought,
                    "response": reply.response,
                    "complete": True,
                    "well_formed": reply.well_formed,
                    "cut_off": reply.cut_off,
                    "frames": reply.frames,
                    "dropped_turns": reply.dropped_turns,
                }
            )
        except FiresError as error:
            lines.put({"error": str(error)})
        except Exception:
            log.exception("a reply failed")
            lines.put({"error": "the model failed; the terminal shows the error"})
        finally:
            lines.put(None)

    threading.Thread(target=generate, daemon=True).start()
    while (line := lines.get()) is not None:
        yield json.dumps(line) + "\n"


async def _json_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request. The content type makes a browser ask for permission (CORS) before another site can send
    one."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise FiresError("a request must be JSON")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REQUEST_BYTES:
            raise FiresError("the message is too long; write a shorter one")
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise FiresError("a request must be a JSON object")
    return content


async def _error_response(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400, headers=SECURITY_HEADERS)


def _json_response(facts: dict[str, Any]) -> Response:
    return JSONResponse(facts, headers=SECURITY_HEADERS)


def _file(name: str, media_type: str) -> Any:
    async def serve_file(request: Request) -> Response:
        return FileResponse(PAGE / name, media_type=media_type, headers=SECURITY_HEADERS)

    return serve_file
