"""A judge that speaks OpenAI's protocol over HTTP, as a server on this machine."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


class JudgeServer:
    """`answer(request body, number)` gives (status, body): a dict becomes JSON, bytes go as they are."""

    def __init__(self, answer) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                with lock:
                    number = len(self.requests)
                    self.requests.append({**body, "path": handler.path})
                    self.headers.append({name.lower(): value for name, value in handler.headers.items()})
                    self.at_once += 1
                    self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    status, content = answer(body, number)
                finally:
                    with lock:
                        self.at_once -= 1
                payload = content if isinstance(content, bytes) else json.dumps(content).encode()
                handler.send_response(status)
                handler.send_header("Content-Length", str(len(payload)))
                handler.end_headers()
                try:
                    for at in range(0, len(payload), 64):
                        handler.wfile.write(payload[at : at + 64])
                        if self.drip:
                            handler.wfile.flush()
                            time.sleep(self.drip)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(handler, *_: Any) -> None:
                pass

        self.drip = 0.0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> "JudgeServer":
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()
