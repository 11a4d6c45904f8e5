import os
from pathlib import Path

import click
import pytest

from app.settings import Address, AddressType, users_kubeconfig


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


def test_without_a_kubeconfig_it_is_the_one_that_kubectl_takes(tmp_path: Path) -> None:
    assert users_kubeconfig({}, tmp_path) == ()

    own = tmp_path / ".kube" / "config"
    own.parent.mkdir()
    own.touch()

    assert users_kubeconfig({}, tmp_path) == (own,)
    assert users_kubeconfig({"KUBECONFIG": ""}, tmp_path) == (own,)


def test_the_files_of_kubeconfig_are_all_that_exist(tmp_path: Path) -> None:
    one, other, missing = (tmp_path / name for name in ("one", "other", "missing"))
    one.touch()
    other.touch()
    named = os.pathsep.join(map(str, ("", other, missing, one, other)))

    assert users_kubeconfig({"KUBECONFIG": named}, tmp_path) == (other, one)
    # The one in the home folder is not looked at then.
    assert users_kubeconfig({"KUBECONFIG": os.pathsep}, tmp_path) == ()
