"""As much of a Weights & Biases server as its client talks to, on loopback, and what it was told."""

from __future__ import annotations

import gzip
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "f" * 40


class WandbServer(ThreadingHTTPServer):
    """runs: what a run was announced with, by its id · history: its rows in order · files: contents by run and name ·
    views: workspaces and reports as they were saved · authorizations: headers seen"""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs, self.history, self.files, self.views, self.authorizations = {}, {}, {}, [], set()
        self.refuses = False  # any key

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self):
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_SILENT": "true"}

    def rows(self, run):
        """The numbers of a run's history."""
        return [
            {name: value for name, value in json.loads(line).items() if isinstance(value, int | float) and name[0] != "_"}
            | {"step": json.loads(line)["_step"]}
            for _, line in sorted(self.history.get(run, {}).items())
        ]

    def handle_error(self, request, client_address):
        """A client that hangs up is what some tests want."""

    def answer(self, operation, told):
        name, project = told.get("name"), told.get("project") or told.get("projectName") or "p"
        home = {"id": "P", "name": project, "entity": {"id": "E", "name": "me"}}
        if operation == "UpsertBucket":
            run = self.runs.setdefault(name, {})
            run.update({key: value for key, value in told.items() if value is not None})
            shown = {"id": "R", "name": name, "displayName": name, "description": "", "config": "{}", "sweepName": None}
            return {"upsertBucket": {"bucket": {**shown, "historyLineCount": 0, "project": home}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{told['run']}/{file}"} for file in told["files"]]
            return {"createRunFiles": {"runID": "R", "uploadHeaders": [], "files": files}}
        if operation == "CreateArtifact":
            return {
                "createArtifact": {"artifact": {"id": "A", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}}
            }
        if operation in ("upsertView", "UpsertView2"):
            self.views.append(told)
            view = {"id": f"V{len(self.views)}", "name": told["name"], "type": told["type"], "displayName": told["displayName"]}
            owner = {"id": "P", "name": project, "entityName": told["entityName"]}
            view |= {"description": "", "spec": told["spec"], "updatedAt": "2026-01-01T00:00:00", "project": owner}
            return {"upsertView": {"view": view, "inserted": True}}
        if operation == "Viewer":
            who = {"id": "U", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": {**who, "name": "me", "email": "", "admin": False, "deletedAt": None}}
        if operation == "GetDefaultEntity":
            return {"viewer": {"id": "U", "entity": "me"}}
        if operation == "GetProjects":
            return {"models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        server, body = self.server, self.body()
        server.authorizations.add(self.headers.get("Authorization"))
        if server.refuses:
            self.send({"errors": [{"message": "no such key"}]}, 401)
            return
        if self.path == "/graphql":
            asked = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])[1]
            self.send({"data": server.answer(operation, asked.get("variables") or {})})
            return
        if self.path.endswith("/file_stream"):
            told = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
            rows = server.history.setdefault(self.path.split("/")[-2], {})
            rows.update(enumerate(told.get("content", ()), start=told.get("offset", 0)))
        self.send({})

    def do_PUT(self):
        _, _, run, name = self.path.split("/", 3)
        self.server.files[run, name] = self.body()
        self.send({})

    def body(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def send(self, answer, status=200):
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def wandb_server():
    server = WandbServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
