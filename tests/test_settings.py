import click
import pytest

from app.settings import Address, AddressType


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:9443", Address("0.0.0.0", 9443)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_an_address_is_host_and_port_and_is_written_as_it_was_read(text: str, address: Address) -> None:
    assert AddressType().convert(text, None, None) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "9443", ":9443", "localhost:", "localhost:http", "localhost:65536"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not HOST:PORT, such as 0\.0\.0\.0:9443"):
        AddressType().convert(text, None, None)
