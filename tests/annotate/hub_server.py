"""A hub as small as can be: the endpoints that huggingface_hub calls to push a data set, over real HTTP."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """What was pushed. `repositories` maps a name to its files; `refuse` is a status and words for every request, `slow` waits."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.address = ""
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[dict[str, Any]] = []
        self.stored: dict[str, bytes] = {}
        self.refuse: tuple[int, str] | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.asked: list[str] = []


@contextmanager
def serve_hub(token: str) -> Iterator[Hub]:
    hub = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def answer(self, status: int, body: Any = None, **headers: str) -> None:
            data = json.dumps(body).encode() if body is not None else b""
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.asked.append(f"{self.command} {self.path}")
            hub.hold.wait(30)
            if hub.refuse:
                status, words = hub.refuse
                return self.answer(status, {"error": words}, X_Error_Message=words)
            if self.path.startswith("/stored/"):
                hub.stored[self.path.removeprefix("/stored/")] = body
                return self.answer(200, {})
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.answer(401, {"error": "Invalid credentials"})
            return self.route(self.path.partition("?")[0], body)

        do_GET = do_POST = do_PUT = do_HEAD = handle_request

        def route(self, path: str, body: bytes) -> None:
            if path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            if path == "/api/repos/create":
                wanted = json.loads(body)
                name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
                known = name in hub.repositories
                hub.repositories.setdefault(name, {})
                hub.private.setdefault(name, wanted.get("private", wanted.get("visibility") == "private"))
                return self.answer(409 if known else 200, {"url": f"{hub.address}/datasets/{name}", "id": name})
            if path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**one, "actions": {"upload": {"href": f"{hub.address}/stored/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]
                return self.answer(200, {"transfer": "basic", "objects": objects})
            name = "/".join(path.removeprefix("/api/datasets/").split("/")[:2])
            files = hub.repositories[name]
            if "/preupload/" in path:
                modes = [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if one["path"].endswith(".parquet") else "regular",
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for one in json.loads(body)["files"]
                ]
                return self.answer(200, {"files": modes})
            if "/commit/" in path:
                lines = [json.loads(line) for line in body.splitlines()]
                for line in lines:
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        files[value["path"]] = hub.stored[value["oid"]]
                    elif line["key"] == "deletedFile":
                        del files[value["path"]]
                hub.commits.append(lines[0]["value"])
                oid = hashlib.sha1(body, usedforsecurity=False).hexdigest()
                return self.answer(
                    200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.address}/datasets/{name}/commit/{oid}"}
                )
            if "/tree/" in path:
                return self.answer(
                    200,
                    [{"type": "file", "path": one, "size": len(data), "oid": "0" * 40} for one, data in files.items()],
                )
            if "/revision/" in path or path == f"/api/datasets/{name}":
                siblings = [{"rfilename": one} for one in files]
                return self.answer(
                    200, {"id": name, "sha": "0" * 40, "siblings": siblings, "private": hub.private[name], "tags": []}
                )
            return self.answer(404, {"error": f"unknown {path}"})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.hold.set()
        server.shutdown()
        server.server_close()
