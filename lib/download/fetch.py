"""Fetching one address: a request, its redirects, and what arrives in a file; and how long to wait for a host."""

import asyncio
import contextlib
import email.utils
import hashlib
import http
import os
import ssl
import time
from typing import NamedTuple

import aiohttp
from yarl import URL

from lib.download.addresses import PrivateAddressError, Proxies, Resolver, is_odd_literal, is_private_literal
from lib.errors import WorkError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds
LONGEST_WAIT = 600  # seconds that a server may ask for; one that asks for more is left for another day
_CONNECT_SECONDS, _SILENT_SECONDS = 20, 30  # at most for connecting, and without a byte
_MOST_REDIRECTS = 5
_BLOCK = 1 << 16
_AGENT = "Herbariograph (https://github.com/dpl10/herbariograph{})"


class FetchError(Exception):
    """An address can't be fetched; the message is the reason, without the address.

    Attributes:
        passing: whether it may succeed later.
        wait: the seconds after which the server asks to come again; None if it doesn't.
    """

    def __init__(self, reason, passing=False, wait=None):
        super().__init__(reason)
        self.passing, self.wait = passing, wait


class Fetched(NamedTuple):
    """What has arrived: how many bytes, their SHA-256, and whether the server said how many there are, so that none is
    missing."""

    size: int
    sha256: str
    counted: bool


class Host:
    """What is known of a host while its images are fetched.

    Attributes:
        slots: the connections that it may still get.
        failures: how many images failed in a row.
        troubles: how many of them in a row might have succeeded at another time.
        since: when the first of these failed.
        ended: why no more is asked of it; None as long as it is asked.
    """

    def __init__(self, connections):
        self.slots = asyncio.Semaphore(connections)
        self.failures, self.troubles, self.since, self.ended = 0, 0, None, None
        self._pauses, self._resume = 0, 0.0

    async def wait(self):
        """Wait until the host may be asked again."""
        while True:
            seconds = self._resume - time.monotonic()
            if seconds <= 0 or self.ended:
                return
            await asyncio.sleep(seconds)

    def pause(self, asked):
        """Let everyone wait for the host: twice as long as the last time, and as long as it asks for."""
        now = time.monotonic()
        if now >= self._resume:  # else this request was sent before the pause
            self._pauses += 1
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._pauses - 1, 30))
        self._resume = max(self._resume, now + max(seconds, asked or 0))

    def answered(self):
        """Note that the host works."""
        self._pauses = 0


class Client:
    """An HTTP client that asks no host for too much, and takes nothing that is too large or not public.

    Args:
        settings: `lib.download.settings.Settings`.
    """

    def __init__(self, settings):
        self._settings, self._hosts = settings, {}
        self._all = asyncio.Semaphore(settings.connections)
        self._proxies = Proxies()
        connector = aiohttp.TCPConnector(
            limit=0, resolver=Resolver(settings.allow_private, self._proxies.hosts), ttl_dns_cache=300
        )
        contact = f"; {settings.contact}" if settings.contact else ""
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": _AGENT.format(contact),
                "Accept": "image/*, */*;q=0.1",
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(
                total=settings.timeout, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS
            ),
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        await self._session.close()

    def host(self, name):
        """The `Host` of a name."""
        if name not in self._hosts:
            self._hosts[name] = Host(self._settings.per_host)
        return self._hosts[name]

    async def fetch(self, address, path):
        """Fetch an address into a file; returns `Fetched`. Raises FetchError; the file may then be half there."""
        target = _parsed(address)
        for _ in range(1 + _MOST_REDIRECTS):
            self._check(target)
            host = self.host(target.raw_host)
            async with host.slots, self._all:
                with _translated():
                    proxy = self._proxies.proxy_for(target.scheme, target.raw_host)
                    async with self._session.get(target, allow_redirects=False, proxy=proxy) as response:
                        host.answered()
                        if response.status not in (301, 302, 303, 307, 308):
                            return await self._save(response, path)
                        location = response.headers.get("Location", "")
            target = _parsed(location, target)
        raise FetchError(f"more than {_MOST_REDIRECTS} redirects")

    def _check(self, target):
        if target.scheme not in ("http", "https") or not target.raw_host or is_odd_literal(target.raw_host):
            raise FetchError(f"{str(target)[:80]!r} is not a valid address of http or https")
        if not self._settings.allow_private and is_private_literal(target.raw_host):
            raise FetchError(f"{target.host} is an address of this machine or its network")

    async def _save(self, response, path):
        status = response.status
        if status != 200:
            passing = status in (408, 429) or status >= 500
            raise FetchError(_status(status, response.reason), passing, _seconds(response.headers.get("Retry-After")))
        most, digest, size = self._settings.max_bytes, hashlib.sha256(), 0
        length = response.content_length
        too_large = f"more than the {most:,} bytes allowed"
        if length is not None and length > most:
            raise FetchError(too_large)
        with _writing(path) as file:
            async for block in response.content.iter_chunked(_BLOCK):
                size += len(block)
                if size > most:
                    raise FetchError(too_large)
                digest.update(block)
                with _disk(path):
                    file.write(block)
        plain = response.headers.get("Content-Encoding", "identity").lower() == "identity"
        if plain and length is not None and size != length:
            raise FetchError(f"cut short: {size:,} of {length:,} bytes arrived", passing=True)
        counted = length is not None or response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        return Fetched(size, digest.hexdigest(), counted)


def _parsed(address, base=None):
    """An address as a `URL`, relative to another one if that is given."""
    try:
        found = URL(address)
        return base.join(found) if base is not None else found
    except ValueError as error:
        raise FetchError(f"{address[:80]!r} is not a valid address of http or https ({error})") from error


@contextlib.contextmanager
def _writing(path):
    """A file that is open for writing."""
    with _disk(path):
        file = open(path, "wb")  # noqa: SIM115 - closed below
    try:
        yield file
    finally:
        with _disk(path):
            file.close()


@contextlib.contextmanager
def _disk(path):
    """Raise WorkError for what goes wrong with a file, which no other address can mend."""
    try:
        yield
    except OSError as error:
        advice = "what was written is kept; run the same command again to resume"
        raise WorkError(f"{os.path.dirname(path)} can't be written to ({error.strerror}); {advice}.") from error


@contextlib.contextmanager
def _translated():
    """Raise FetchError for what goes wrong with a request."""
    try:
        yield
    except (FetchError, WorkError):
        raise
    except (asyncio.TimeoutError, aiohttp.ServerTimeoutError) as error:
        # Which of the limits it was, newer versions say; older ones leave it empty.
        raise FetchError("the server takes too long", passing=True) from error
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or "wrong"
        raise FetchError(f"the server's certificate is not valid: {reason}") from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, PrivateAddressError):
            raise FetchError(str(error.os_error)) from error
        reason = error.os_error.strerror or str(error.os_error)
        raise FetchError(f"the server can't be reached ({reason})", passing=True) from error
    except aiohttp.ClientPayloadError as error:
        raise FetchError("cut short", passing=True) from error
    except (aiohttp.InvalidURL, ValueError) as error:
        raise FetchError(f"not a valid address ({error})") from error
    except aiohttp.ClientResponseError as error:
        raise FetchError("the server's answer is not HTTP", passing=True) from error
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FetchError(f"the connection fails ({reason})", passing=True) from error


def _status(status, reason):
    with contextlib.suppress(ValueError):
        reason = http.HTTPStatus(status).phrase
    return f"HTTP status {status} ({' '.join((reason or 'unknown').split())[:40]})"


def _seconds(text):
    """The seconds that a header `Retry-After` asks for: a number, or a date; None for anything else."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(min(int(text.strip()[:9]), 10**8))
    with contextlib.suppress(ValueError, TypeError, IndexError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None
