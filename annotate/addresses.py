"""Addresses that people give us to send to: how they may look, and which machines may be behind them.

Whoever may add a webhook must not reach, through us, what only our own network may reach (server-side request forgery). An address is
looked at twice: its spelling when it is saved, and the IP addresses behind its host each time before something is sent.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

LONGEST = 500
# One expression reads an address, here and for the connection: two parsers that differ are how such checks are got around.
SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<target>(?:[/?][!-\"$-\[\]-~]*)?)"
)
PORTS = {"https": 443, "http": 80}
# Global unicast; of it what stands for IPv4 addresses (6to4, Teredo) or for nothing (documentation).
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
NOT_ALONE = [ipaddress.ip_network(net) for net in ("2001::/32", "2001:db8::/32", "2002::/16", "3fff::/20")]
NAT64 = ipaddress.ip_network("64:ff9b::/96")
RELAYS = ipaddress.ip_network("192.88.99.0/24")


class Address(NamedTuple):
    """`https://host:port/target`; an IPv6 `host` has no brackets, `target` begins with a slash."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As the header `Host` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def may_be_private(host: str) -> bool:
    """Whether whoever runs Podium has named the host as one that may be in a private network, and may speak http."""
    return host.lower() in settings.WEBHOOK_PRIVATE_HOSTS


def read_address(url: str) -> Address:
    """Raises ValidationError, in words, for an address to which nothing may be sent. Asks no name server."""
    if len(url) > LONGEST:
        raise ValidationError(_("An address has at most %(count)s characters.") % {"count": LONGEST})
    if not url.isascii():
        raise ValidationError(
            _("Write the address in ASCII: a host with other letters as xn--…, a path with %%-escapes.") % {}
        )
    if "@" in url.partition("://")[2].partition("/")[0].partition("?")[0]:
        raise ValidationError(_("Leave user name and password out; what is sent is signed instead."))
    match = SHAPE.fullmatch(url)
    if match is None or ".." in match["host"]:
        raise ValidationError(_("Give a whole address, such as https://example.org/podium."))
    scheme, host, target = match["scheme"].lower(), match["host"].strip("[]").lower(), match["target"]
    trusted = may_be_private(host)
    if scheme not in PORTS or (scheme == "http" and not trusted):
        raise ValidationError(
            _("The address must begin with https://. Whoever runs Podium can allow http for hosts of theirs.")
        )
    port = int(match["port"] or PORTS[scheme])
    if port not in PORTS.values() and not 1024 <= port <= 65535:
        raise ValidationError(_("The port must be 443, 80 or from 1024 to 65535."))
    if not trusted:
        for ip in _written_ip(host):
            check_public(host, ip)
    return Address(scheme, host, port, target if target.startswith("/") else f"/{target}")


def _written_ip(host: str) -> list[str]:
    """The IP address that the host is, in whichever spelling the system takes for one: 0x7f.1, 017700000001, ::1."""
    try:
        return _ips(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return []


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses behind a host, each of them checked. Raises ValidationError, and OSError when there is none."""
    found = _ips(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    if not may_be_private(host):
        for ip in found:
            check_public(host, ip)
    return found


def _ips(found: Sequence[tuple[Any, ...]]) -> list[str]:
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def check_public(host: str, ip: str) -> None:
    if not is_public(ip):
        raise ValidationError(
            _("%(host)s is in a private network (%(ip)s). Whoever runs Podium can allow it (WEBHOOK_PRIVATE_HOSTS).")
            % {"host": host, "ip": ip}
        )


def is_public(ip: str) -> bool:
    """Whether the IP address is of one machine in the public internet.

    An IPv6 address that stands for an IPv4 one counts as what it leads to; of the ways to do so only mapped addresses and NAT64's
    well-known prefix are taken at all.
    """
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif address.scope_id is None and address in NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved or address in RELAYS)
    return address.is_global and address in GLOBAL_UNICAST and not any(address in net for net in NOT_ALONE)
