"""Several servers in one URL, as libpq writes them and as SQLAlchemy does."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy

from rota.errors import UnsupportedUrl
from rota.storage.postgres.address import parse_url

NAMED = {"host": "one,two", "port": "1,2", "dbname": "d", "target_session_attrs": "read-write"}
ATTRS = "target_session_attrs=read-write"


def told(url: str) -> dict[str, Any]:
    """What psycopg is told."""
    address = parse_url(url)
    _, arguments = sqlalchemy.create_engine(address).dialect.create_connect_args(address)
    return {name: value for name, value in arguments.items() if name != "context"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql://u:a,b@one:1,two:2/d?{ATTRS}", {**NAMED, "user": "u", "password": "a,b"}),
        (f"postgresql://one:1,two:2/d?{ATTRS}", NAMED),
        (f"postgresql:///d?host=one:1&host=two:2&{ATTRS}", NAMED),
        (f"postgresql:///d?host=one,two&port=1,2&{ATTRS}", NAMED),
        ("postgres://[::1]:1,two:2", {"host": "::1,two", "port": "1,2"}),
        (
            "postgresql://u:x,y@one:1/d?options=-ca=1,2",
            {
                "host": "one",
                "port": 1,
                "dbname": "d",
                "user": "u",
                "password": "x,y",
                "options": "-ca=1,2",
            },
        ),
    ],
)
def test_all_servers_are_told(url: str, expected: dict[str, Any]) -> None:
    assert told(url) == expected


def test_a_port_that_is_none_is_refused_without_telling_the_password() -> None:
    with pytest.raises(UnsupportedUrl) as refused:
        parse_url("postgresql://u:secret@one:x,two/d")
    assert "secret" not in str(refused.value)
