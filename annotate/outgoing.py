"""One POST to an address that a person gave us, guarded (annotate/addresses.py says against what).

The name is resolved once, every IP address behind it is checked, and the connection goes to one of those: a name server that answers
otherwise a moment later changes nothing. TLS checks the certificate for the name. Redirects are not followed, proxies named in the
environment are not asked, and the whole exchange has one deadline, however slowly the other side drips.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import httpcore2 as httpcore
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_noop

from annotate.addresses import Address, read_address, resolve

CONNECT_SECONDS = 5.0
SECONDS = 10.0
LARGEST_ANSWER = 64 * 1024
IPS_TRIED = 3


class Answer(NamedTuple):
    """`status` is None when there was no answer; `error` says why there was none, or none that counts."""

    status: int | None
    text: str
    error: str
    retry_after: float
    seconds: float


def post(url: str, headers: dict[str, str], body: bytes) -> Answer:
    """Send and tell what came back; whatever goes wrong is in the answer, too."""
    began = time.monotonic()
    status, text, error, retry_after = None, "", "", 0.0
    try:
        status, answered, content = _exchange(read_address(url), headers, body, began + SECONDS)
        text = " ".join(content.decode("utf-8", "replace").replace("\0", "").split())
        if 300 <= status < 400:
            error = gettext_noop(
                "It answered with a redirect, and redirects are not followed: give the address itself."
            )
        after = answered.get("retry-after", "")
        retry_after = float(after) if after.isascii() and after.isdecimal() and len(after) < 8 else 0.0
    except ValidationError as refused:
        error = " ".join(refused.messages)
    except (httpcore.TimeoutException, TimeoutError):
        error = gettext_noop("It took too long.")
    except socket.gaierror:
        error = gettext_noop("There is no host of this name.")
    except (httpcore.ConnectError, OSError) as failure:
        error = f"No connection: {failure}"
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, UnicodeError) as failure:
        error = f"No answer: {failure}"
    return Answer(status, text, error, retry_after, time.monotonic() - began)


def _exchange(address: Address, headers: dict[str, str], body: bytes, ends: float) -> tuple[int, dict[str, str], bytes]:
    url = httpcore.URL(
        scheme=address.scheme.encode(),
        host=address.host.encode(),
        port=address.port,
        target=address.target.encode(),
    )
    sent = [("Host", address.authority), ("Content-Length", str(len(body))), *headers.items()]
    extensions = {"timeout": {"connect": CONNECT_SECONDS, "read": SECONDS, "write": SECONDS, "pool": SECONDS}}
    with (
        httpcore.ConnectionPool(ssl_context=_tls(), network_backend=_Guarded(ends), max_connections=1) as pool,
        pool.stream("POST", url, headers=sent, content=body, extensions=extensions) as response,
    ):
        content = b""
        for part in response.iter_stream():
            content += part
            if len(content) > LARGEST_ANSWER:
                break
        answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return response.status, answered, content[:LARGEST_ANSWER]


@cache
def _tls() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


def _resolve_in_time(host: str, port: int, seconds: float) -> list[str]:
    """The system's resolver knows no time limit: what it says later is nobody's business any more."""
    found: list[str] = []
    failed: list[Exception] = []

    def look_up() -> None:
        try:
            found.extend(resolve(host, port))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if thread.is_alive():
        raise TimeoutError(f"{host}: the name server did not answer")
    return found


class _Guarded(httpcore.SyncBackend):
    """Connects to checked IP addresses alone, and reads and writes no longer than until `ends`."""

    def __init__(self, ends: float) -> None:
        self.ends = ends

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        ips = _resolve_in_time(host, port, min(CONNECT_SECONDS, _left(self.ends)))
        failure: Exception = OSError(f"{host} has no address")
        for ip in ips[:IPS_TRIED]:
            try:
                stream = super().connect_tcp(ip, port, min(CONNECT_SECONDS, _left(self.ends)), None, socket_options)
                return _InTime(stream, self.ends)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _InTime(httpcore.NetworkStream):
    """A stream whose every step has only what is left of the time for all of them."""

    def __init__(self, stream: httpcore.NetworkStream, ends: float) -> None:
        self.stream, self.ends = stream, ends

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, _left(self.ends))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, _left(self.ends))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _InTime(self.stream.start_tls(ssl_context, server_hostname, _left(self.ends)), self.ends)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("no whole answer in time")
    return left
