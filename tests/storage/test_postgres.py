import pytest

from app.storage.postgres import EXPECTED, parse_dsn

FULL = {
    "host": "db.example.com",
    "port": "6432",
    "database": "ditto",
    "user": "u@x",
    "password": "p 'w\\",
    "sslmode": "require",
}


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://u%40x:p%20%27w%5C@db.example.com:6432/ditto?sslmode=require",
        "postgresql://db.example.com:6432/ditto?user=u%40x&password=p%20'w%5C&sslmode=require\n",
        r"host=db.example.com port=6432 dbname=ditto user=u@x password='p \'w\\' sslmode=require",
        r"sslmode = require host= db.example.com  port =6432 database=ditto user=u@x password=p\ \'w\\",
    ],
)
def test_both_forms_are_read(dsn: str) -> None:
    assert parse_dsn(dsn) == FULL


@pytest.mark.parametrize(
    ("dsn", "password"),
    [
        ("host=h user=u password='a://b'", "a://b"),
        ("host=h user=u password=it's", "it's"),
        ("postgres://h/db?user=u&password=a+b", "a+b"),
        ("postgres://u:p@ss@h/db", "p@ss"),
    ],
)
def test_a_password_may_look_like_something_else(dsn: str, password: str) -> None:
    assert parse_dsn(dsn)["password"] == password


def test_what_is_left_out_is_as_libpq_has_it() -> None:
    assert parse_dsn("postgres://me@[::1]") == {
        "host": "::1",
        "port": "5432",
        "database": "me",
        "user": "me",
        "password": "",
        "sslmode": "prefer",
    }


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "hunter2",
        "mysql://u:hunter2@host/db",
        "postgres://u:hunter2@host:port/db",
        "postgres://u:hunter2@[::1/db",
        "postgres://:hunter2@host/db",
        "postgres:///hunter2",
        "host=h password=hunter2",
        "host=h user=u port=hunter2",
        "host=h user=u password='hunter2",
        "host=h,hunter2 user=u",
        "postgres://u:hunter2@a,b/db",
        "postgres://u:hunter2@h:0/db",
        "host=h user=u password=hunter2 port=99999",
        "host=h user=u password=hunter2 port=٣",
        "host=h user=u sslmode=hunter2",
        "postgres://u:hunter2%00@h/db",
    ],
)
def test_a_bad_connection_string_is_never_quoted(dsn: str) -> None:
    with pytest.raises(ValueError, match=r"^expected postgres://") as caught:
        parse_dsn(dsn)

    assert str(caught.value) == EXPECTED
    assert caught.value.__cause__ is None
