"""Which addresses of the network may be connected to.

An archive comes from outside, and its links could lead a machine to itself or to its neighbours, such as a router's or
a cloud's own pages. The addresses that are checked here are those that are then connected to: names are resolved once.
"""

import ipaddress
import re
import socket
from urllib.request import getproxies, proxy_bypass

import aiohttp.abc

from lib.download.plan import host_of

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses within IPv6, RFC 6052


class PrivateAddressError(OSError):
    """A host has no address but private ones."""


def is_public(address):
    """Whether an address, as text, is one of the internet rather than of this machine or its network."""
    found = ipaddress.ip_address(address.split("%")[0])
    if found.version == 6:
        if found.ipv4_mapped is not None or found in _TRANSLATED:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        if not all(is_public(str(each)) for each in (found.sixtofour, *(found.teredo or ())) if each is not None):
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


def is_odd_literal(host):
    """Whether a host is a number, or ends in one, without being an address: a way of writing addresses, such as `127.1`
    or `0x7f000001`, that systems understand and the standards of the web forbid."""
    last = host.rstrip(".").rpartition(".")[2]
    if not re.fullmatch(r"\d+|0x[0-9a-f]*", last, re.IGNORECASE):
        return False
    try:
        ipaddress.ip_address(host)
        return False
    except ValueError:
        return True


def is_private_literal(host):
    """Whether a host is a private address itself, which no resolver is asked for."""
    try:
        return not is_public(host)
    except ValueError:
        return False


class Resolver(aiohttp.abc.AbstractResolver):
    """Resolves names as the system does, without private addresses unless they are allowed.

    Args:
        allow_private: whether they are.
        trusted: hosts that may have private addresses all the same.
    """

    def __init__(self, allow_private, trusted=()):
        self._allow_private, self._trusted = allow_private, {*trusted}
        self._system = aiohttp.ThreadedResolver()

    async def resolve(self, host, port=0, family=socket.AF_INET):
        found = await self._system.resolve(host, port, family)
        if not self._allow_private and host not in self._trusted:
            found = [each for each in found if is_public(each["host"])]
            if not found:
                raise PrivateAddressError(f"{host} is an address of this machine or its network")
        return found

    async def close(self):
        await self._system.close()


class Proxies:
    """The proxies of the environment (`https_proxy`, `no_proxy`, …).

    Attributes:
        hosts: theirs, which may be private.
    """

    def __init__(self):
        self._of_scheme = {scheme: url for scheme, url in getproxies().items() if scheme in ("http", "https")}
        self.hosts = {host_of(url) for url in self._of_scheme.values()}

    def proxy_for(self, scheme, host):
        """The proxy's address for a host; None for none."""
        proxy = self._of_scheme.get(scheme)
        return proxy if proxy and not proxy_bypass(host) else None
