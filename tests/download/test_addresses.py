"""No archive leads a machine to itself or into its network."""

import asyncio
import socket

import pytest

from lib.download.addresses import PrivateAddressError, Resolver, is_odd_literal, is_private_literal, is_public

PUBLIC = ("8.8.8.8", "193.0.6.139", "2001:67c:2e8:22::c100:68b", "::ffff:8.8.8.8", "64:ff9b::808:808")
PRIVATE = (
    *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address):
    assert is_public(address) and not is_private_literal(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_of_the_machine_and_its_network_are_not(address):
    assert not is_public(address) and is_private_literal(address)


def test_a_name_is_no_literal():
    assert not is_private_literal("localhost") and not is_private_literal("")


def test_odd_ways_of_writing_an_address_are_known():
    for odd in ("127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "127.0.0.1.", "0177.0.0.1", "1.2.3.4.5", "a.0x7f"):
        assert is_odd_literal(odd), odd
    for host in ("a.example", "127.0.0.1", "::1", "1.example", "x0x7f", "localhost", "a.example.", ""):
        assert not is_odd_literal(host), host


def resolved(found, allow_private=False, trusted=(), host="a.example"):
    """The addresses that a name leads to, if the system finds these."""

    async def go():
        resolver = Resolver(allow_private, trusted)

        class System:
            async def resolve(self, host, port, family):
                return [{"hostname": host, "host": address, "port": port} for address in found]

        resolver._system = System()
        return [each["host"] for each in await resolver.resolve(host, 80, socket.AF_UNSPEC)]

    return asyncio.run(go())


def test_a_name_leads_to_its_public_addresses_only():
    """So that the address that is connected to is one that was checked, whatever the name means a moment later."""
    assert resolved(["8.8.8.8", "::1"]) == ["8.8.8.8"]
    with pytest.raises(PrivateAddressError, match="a.example is an address of this machine or its network"):
        resolved(["10.0.0.1", "::1"])
    assert resolved(["10.0.0.1"], allow_private=True) == ["10.0.0.1"]
    assert resolved(["10.0.0.1"], trusted=["proxy"], host="proxy") == ["10.0.0.1"]
