"""What is sent to addresses that people give us: never into a private network, never without end."""

import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from django.core.exceptions import ValidationError

from annotate import outgoing
from annotate.addresses import is_public, read_address
from tests.annotate.receiver import HOST, receiving

PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:a00:1::",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
]
PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("ip", PRIVATE)
def test_what_is_not_one_machine_of_the_internet_is_private(ip):
    assert not is_public(ip)


@pytest.mark.parametrize("ip", PUBLIC)
def test_what_is_one_is_public(ip):
    assert is_public(ip)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/", "must begin with https"),
        ("ftp://example.org/", "must begin with https"),
        ("file:///etc/passwd", "whole address"),
        ("gopher://example.org", "must begin with https"),
        ("example.org/hook", "whole address"),
        ("https://", "whole address"),
        ("https:///path", "whole address"),
        ("https://user:word@example.org/", "user name and password"),
        ("https://example.org@127.0.0.1/", "user name and password"),
        ("https://127.0.0.1#@example.org/", "user name and password"),
        ("https://127.0.0.1\\@example.org/", "user name and password"),
        ("https://example.org\\.evil.org/", "whole address"),
        ("https://example.org/a b", "whole address"),
        ("https://example.org/\r\nX: y", "whole address"),
        ("https://example.org/#fragment", "whole address"),
        ("https://example..org/", "whole address"),
        ("https://example.org.:443/", "whole address"),
        ("https://%31%32%37.0.0.1/", "whole address"),
        ("https://１２７.0.0.1/", "ASCII"),
        ("https://127。0。0。1/", "ASCII"),
        ("https://ⓛocalhost/", "ASCII"),
        ("https://münchen.example/", "ASCII"),
        ("https://example.org:22/", "port"),
        ("https://example.org:0/", "port"),
        ("https://example.org:99999/", "port"),
        ("https://example.org/" + "a" * 500, "at most 500"),
        ("https://127.0.0.1/", "private network"),
        ("https://2130706433/", "private network"),
        ("https://0x7f000001/", "private network"),
        ("https://0177.0.0.1/", "private network"),
        ("https://0x7f.1/", "private network"),
        ("https://127.1/", "private network"),
        ("https://0/", "private network"),
        ("https://169.254.169.254/latest/meta-data/", "private network"),
        ("https://100.64.0.1/", "private network"),
        ("https://[::1]/", "private network"),
        ("https://[::]:8443/", "private network"),
        ("https://[::ffff:10.0.0.1]/", "private network"),
        ("https://[fe80::1%25eth0]/", "whole address"),
    ],
)
def test_an_address_to_which_nothing_may_be_sent_is_refused_when_it_is_given(url, words):
    with pytest.raises(ValidationError, match=words):
        read_address(url)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://Example.org", ("https", "example.org", 443, "/")),
        ("https://example.org:8443/a?b=c@d", ("https", "example.org", 8443, "/a?b=c@d")),
        ("HTTPS://xn--mnchen-3ya.example/?x", ("https", "xn--mnchen-3ya.example", 443, "/?x")),
        ("https://[2606:4700::1111]/", ("https", "2606:4700::1111", 443, "/")),
    ],
)
def test_other_addresses_are_taken_apart(url, parts):
    assert read_address(url) == parts


def test_hosts_that_the_operator_names_may_be_private_and_speak_http(settings):
    settings.WEBHOOK_PRIVATE_HOSTS = frozenset({"hooks.internal", "::1"})
    assert read_address("http://HOOKS.internal:8080/x").port == 8080
    assert read_address("http://[::1]/").authority == "[::1]"
    with pytest.raises(ValidationError):
        read_address("http://more.hooks.internal/")


@pytest.fixture
def names(monkeypatch):
    """The system's resolver, with answers of the test's own: {name: [addresses of the first question, of the second, …]}."""
    asked, system = dict[str, list[list[str]]](), socket.getaddrinfo

    def answer(host, port, *arguments, **options):
        if host not in asked:
            return system(host, port, *arguments, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror("no number")
        ips = asked[host].pop(0) if len(asked[host]) > 1 else asked[host][0]
        return [one for ip in ips for one in system(ip, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def send(url):
    return outgoing.post(url, {"X-One": "1"}, b"{}")


@pytest.mark.parametrize("ip", [ip for ip in PRIVATE if "%" not in ip])
def test_a_name_that_leads_into_a_private_network_is_not_connected_to(names, ip):
    names["rebind.example"] = [[ip]]
    answer = send("https://rebind.example/")
    assert answer.status is None
    assert "private network" in answer.error


def test_one_private_address_among_public_ones_is_enough_to_refuse(names):
    names["mixed.example"] = [["93.184.215.14", "127.0.0.1"]]
    assert "private network" in send("https://mixed.example/").error


def test_a_name_that_turns_private_after_it_was_checked_changes_nothing(names, monkeypatch):
    """The connection goes to the address that was checked, whatever the name leads to by then."""
    names["rebind.example"] = [["93.184.215.14"], ["127.0.0.1"]]
    connected = []

    def connect(address, *_arguments, **_options):
        connected.append(address)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", connect)
    assert send("https://rebind.example/").status is None
    assert connected == [("93.184.215.14", 443)]
    assert "private network" in send("https://rebind.example/").error
    assert connected == [("93.184.215.14", 443)]


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_PRIVATE_HOSTS = frozenset({HOST})
    with receiving() as receiver:
        yield receiver


def test_it_posts_and_tells_what_came_back(receiver):
    answer = send(receiver.url)
    assert (answer.status, answer.text, answer.error) == (200, "thanks", "")
    assert 0 < answer.seconds < 5
    ((headers, body),) = receiver.received
    assert (headers["Host"], headers["X-One"], body) == (f"{HOST}:{receiver.port}", "1", b"{}")


def test_a_redirect_is_not_followed(receiver):
    with receiving() as other:
        receiver.statuses, receiver.headers = [302], {"Location": other.url}
        answer = send(receiver.url)
        assert answer.status == 302
        assert "redirect" in answer.error
        assert other.received == []


def test_proxies_of_the_environment_are_not_asked(receiver, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert send(receiver.url).status == 200


def test_of_an_endless_answer_only_the_beginning_is_read(receiver):
    def pour(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(10_000):
                handler.wfile.write(b"x" * 65536)
        except OSError:
            stopped.set()

    stopped = threading.Event()
    receiver.act = pour
    answer = send(receiver.url)
    assert answer.status == 200
    assert len(answer.text) == outgoing.LARGEST_ANSWER
    assert stopped.wait(5)


@pytest.mark.parametrize("where", ["headers", "body"])
def test_whoever_drips_is_cut_off_by_the_clock(receiver, monkeypatch, where):
    monkeypatch.setattr(outgoing, "SECONDS", 0.3)

    def drip(handler):
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if where == "body" else b"X: "))
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    receiver.act = drip
    began = time.monotonic()
    answer = send(receiver.url)
    assert answer.error == "It took too long."
    assert time.monotonic() - began < 2


def test_a_name_that_leads_nowhere_is_told_so(monkeypatch):
    def unknown(*_arguments, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert send("https://nowhere.example/").error == "There is no host of this name."


def test_a_name_server_that_does_not_answer_holds_nobody_up(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(outgoing, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, flags=0, **__: over.wait(10) if not flags else [])
    began = time.monotonic()
    assert send("https://slow.example/").error == "It took too long."
    assert time.monotonic() - began < 2
    over.set()


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_what_is_no_http_is_an_error_in_words(receiver, answer):
    receiver.act = lambda handler: handler.wfile.write(answer)
    told = send(receiver.url)
    assert told.status is None
    assert told.error


def test_nobody_there_is_an_error_in_words(settings):
    settings.WEBHOOK_PRIVATE_HOSTS = frozenset({HOST})
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        told = send(f"http://{HOST}:{closed.getsockname()[1]}/")
    assert "Connection refused" in told.error


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
def test_the_certificate_must_be_for_the_name_though_the_connection_goes_to_an_address(
    names, settings, tmp_path, monkeypatch
):
    """One name of the certificate is served, another one at the same address is not."""
    settings.WEBHOOK_PRIVATE_HOSTS = frozenset({"good.example", "other.example"})
    names["good.example"] = names["other.example"] = [[HOST]]
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=good.example", "-addext", "subjectAltName=DNS:good.example"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    outgoing._tls.cache_clear()
    asked_for = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    try:
        with receiving() as receiver:
            receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
            assert send(f"https://good.example:{receiver.port}/").status == 200
            told = send(f"https://other.example:{receiver.port}/")
            assert "CERTIFICATE_VERIFY_FAILED" in told.error
            assert len(receiver.received) == 1
    finally:
        outgoing._tls.cache_clear()
    assert asked_for == ["good.example", "other.example"]
