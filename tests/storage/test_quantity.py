import pytest

from app.storage.quantity import format_bytes, parse, parse_cache_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("5Gi", 5 * 2**30),
        ("1024Mi", 2**30),
        ("1Ti", 2**40),
        ("6G", 6 * 10**9),
        ("1500m", 2),
        ("1.5Gi", 3 * 2**29),
        ("1e3", 1000),
        ("12E", 12 * 10**18),
        ("5368709120", 5 * 2**30),
        (".5Ki", 512),
    ],
)
def test_a_kubernetes_quantity_is_read_in_bytes(text: str, size: int) -> None:
    assert parse(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "5GB", "5gi", "1 Gi", "1Gi\n", "٣Gi", "0x10", "1e1e1"])
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 10**9), ("1Gi", 2**30), ("1GiB", 2**30), ("512 mb", 512 * 10**6), ("42", 42), ("1.5KB", 1500)],
)
def test_a_cache_size_is_read_as_dittofs_writes_it(text: str, size: int) -> None:
    assert parse_cache_size(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "1XB"])
def test_a_cache_size_that_cannot_be_read_is_none(text: str) -> None:
    assert parse_cache_size(text) is None


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1Ki"), (5 * 2**30, "5Gi"), (5 * 2**30 + 1, "5Gi"), (1300 * 2**20, "1.3Gi")],
)
def test_a_size_is_written_for_a_person_to_a_tenth(size: int, text: str) -> None:
    assert format_bytes(size) == text
