"""Read the database's URL."""

from __future__ import annotations

import re

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from rota.errors import UnsupportedUrl

_SCHEMES = {"postgresql", "postgres", "postgresql+psycopg"}
#: Several servers, as libpq writes them: scheme, user, hosts, the rest.
_SEVERAL = re.compile(
    r"([^:/?#]+)://([^/?#]*@)?([^/?#@]*,[^/?#@]*)(/[^?#]*)?(?:\?(.*))?", re.DOTALL
)

#: Options of libpq that hold a secret of their own.
_SECRETS = frozenset({"sslpassword", "oauth_client_secret"})


def parse_url(url: str | URL) -> URL:
    """The URL for SQLAlchemy with psycopg 3; any other driver or database is refused.

    Several servers are given as libpq takes them: ``postgresql://one:5432,two:5432/name``,
    with ``?target_session_attrs=read-write`` to find the one that is primary now.
    """
    if isinstance(url, str):
        url = _several(url)
    scheme = url.drivername if isinstance(url, URL) else url.partition(":")[0]
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # Not the URL itself: it may hold a password.
        raise UnsupportedUrl(
            f"this {scheme!r} URL cannot be read; write postgresql://user@host:5432/database",
            field="url",
        ) from error
    if parsed.drivername not in _SCHEMES:
        raise UnsupportedUrl(
            f"{parsed.drivername!r} is not PostgreSQL by psycopg; "
            "write postgresql://user@host:5432/database",
            field="url",
        )
    return _without_open_secrets(parsed.set(drivername="postgresql+psycopg"))


def shown(url: URL) -> str:
    """The URL as messages and commands name it: every secret is masked."""
    hidden = dict.fromkeys(_SECRETS & url.query.keys(), "hidden")
    masked = url.set(drivername="postgresql").update_query_dict(hidden)
    return masked.render_as_string(hide_password=True)


def _without_open_secrets(url: URL) -> URL:
    """A password among the options goes where one belongs: only there is it masked when shown."""
    given = url.query.get("password")
    if given is None:
        return url
    user = url.username or url.query.get("user")
    url = url.difference_update_query(["password", "user"])
    return url.set(username=str(user or "") or None, password=str(given))


def _several(url: str) -> str:
    """Several servers in the form SQLAlchemy can read; anything else as it is."""
    match = _SEVERAL.fullmatch(url)
    if match is None:
        return url
    scheme, user, places, path, query = match.groups()
    hosts, ports = [], []
    for place in places.split(","):
        host, colon, port = place.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = place, ""
        if port and not port.isdecimal():
            return url
        hosts.append(host.strip("[]"))
        ports.append(port)
    named = f"host={','.join(hosts)}" + (f"&port={','.join(ports)}" if any(ports) else "")
    return f"{scheme}://{user or ''}{path or '/'}?{named}{'&' if query else ''}{query or ''}"
