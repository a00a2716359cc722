"""A conversation on a page: one small server, for whoever sits at this machine.

A page asks for a conversation and gets a key to it that nobody can guess; other pages in the same browser can neither read nor
make one, since requests must come as JSON from this page's own address. Answers travel as lines of JSON while they are written.
The page puts all text in as text, and nothing but its own files is loaded.
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

from fires_exp.chat.session import Conversation, Listener
from fires_exp.data.records import Clip
from fires_exp.errors import FiresError
from fires_exp.export.disclaimer import NOTICE

log = logging.getLogger("fires_exp.pipeline")

PAGE = Path(__file__).parent
FILES = {"": ("page.html", "text/html"), "page.css": ("page.css", "text/css"), "page.js": ("page.js", "text/javascript")}
MOST_CONVERSATIONS = 16
LONGEST_REQUEST_BYTES = 2**16
GUARD = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def serve(listener: Listener, host: str, port: int) -> None:
    """Serve the page until an interrupt."""
    server = Server(uvicorn.Config(chat_app(listener, host), host=host, port=port, log_level="warning", access_log=False))
    if not is_loopback(host):
        log.warning("chat.host=%s: whoever reaches this machine can talk to the model, there is no password", host)
    try:
        server.run()
    except KeyboardInterrupt:
        log.info("the page is closed")


class Server(uvicorn.Server):
    """Says where it is once it is there."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            host, port = server.sockets[0].getsockname()[:2]
            log.info("open http://%s:%d in a browser; Ctrl-C ends", f"[{host}]" if ":" in host else host, port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def chat_app(listener: Listener, host: str) -> Starlette:
    """The page and what it asks for. On a loopback address only requests to a loopback name are answered: another site's name
    that was bent to it is none."""
    rooms = Rooms(listener)
    hosts = ["127.0.0.1", "localhost", "::1", "[::1]", host] if is_loopback(host) else ["*"]
    return Starlette(
        routes=[
            *(Route(f"/{path}", _file(name, kind)) for path, (name, kind) in FILES.items()),
            Route("/start", rooms.start, methods=["POST"]),
            Route("/video", rooms.video, methods=["POST"]),
            Route("/say", rooms.say, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={FiresError: _told},
    )


class Room:
    """A conversation and the clip that waits for its next words."""

    def __init__(self, listener: Listener) -> None:
        self.conversation = Conversation(listener)
        self.clip: Clip | None = None


class Rooms:
    """The conversations of open pages; the oldest goes where there are too many."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._rooms: OrderedDict[str, Room] = OrderedDict()

    async def start(self, request: Request) -> Response:
        """A new conversation: its key, and what stands on the page."""
        await _asked(request)
        key = secrets.token_urlsafe()
        self._rooms[key] = Room(self.listener)
        while len(self._rooms) > MOST_CONVERSATIONS:
            self._rooms.popitem(last=False)
        return _answered({"key": key, "notice": NOTICE, "model": self.listener.name})

    async def video(self, request: Request) -> Response:
        """A clip, as it is, for the next words."""
        room = self._room(request.headers.get("x-key", ""))
        path = self.listener.uploads / secrets.token_hex(8)
        received = 0
        with path.open("wb") as file:
            async for piece in request.stream():
                received += len(piece)
                if received > self.listener.max_video_bytes:
                    path.unlink()
                    raise FiresError(f"a clip may have {self.listener.max_video_bytes >> 20} MB (chat.max_video_megabytes)")
                file.write(piece)
        try:
            room.clip = await run_in_threadpool(self.listener.clip, path, "the clip")
        except FiresError:
            path.unlink()
            raise
        return _answered({"seconds": room.clip.duration_seconds})

    async def say(self, request: Request) -> Response:
        """Lines of JSON: the answer as far as it is written, over and over, then the whole one, or what went wrong."""
        asked = await _asked(request)
        room, text = self._room(asked.get("key")), asked.get("text")
        if not isinstance(text, str):
            raise FiresError("nothing was said; write something")
        return StreamingResponse(_lines(room, text), media_type="application/x-ndjson", headers=GUARD)

    def _room(self, key: object) -> Room:
        room = self._rooms.get(key) if isinstance(key, str) else None
        if room is None:
            raise FiresError("this conversation is closed; reload the page")
        return room


def _lines(room: Room, text: str) -> Iterator[str]:
    """Written in a thread of its own, so that pieces leave while it goes on."""
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def write() -> None:
        try:
            clip, room.clip = room.clip, None
            reply = room.conversation.say(
                text, clip, lambda parsed: lines.put({"thought": parsed.thought, "response": parsed.response, "whole": False})
            )
            lines.put(
                {
                    "thought": reply.thought,
                    "response": reply.response,
                    "whole": True,
                    "well_formed": reply.well_formed,
                    "cut_off": reply.cut_off,
                    "frames": reply.frames,
                    "dropped_turns": reply.dropped_turns,
                }
            )
        except FiresError as error:
            lines.put({"error": str(error)})
        except Exception:
            log.exception("an answer failed")
            lines.put({"error": "the model failed; the terminal says why"})
        finally:
            lines.put(None)

    threading.Thread(target=write, daemon=True).start()
    while (line := lines.get()) is not None:
        yield json.dumps(line) + "\n"


async def _asked(request: Request) -> dict[str, Any]:
    """A request's JSON object. Other sites can't send one without asking this server first, and it gives no leave."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise FiresError("requests are JSON")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_REQUEST_BYTES:
            raise FiresError("that is too long; say less at a time")
    try:
        asked = json.loads(body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise FiresError("requests are JSON objects")
    return asked


async def _told(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400, headers=GUARD)


def _answered(facts: dict[str, Any]) -> Response:
    return JSONResponse(facts, headers=GUARD)


def _file(name: str, kind: str) -> Any:
    async def send(request: Request) -> Response:
        return FileResponse(PAGE / name, media_type=kind, headers=GUARD)

    return send
