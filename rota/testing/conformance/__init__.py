"""The repository's specification as tests: a backend is right when it passes them.

::

    from rota.testing.conformance import RepositoryContract

    class TestMine(RepositoryContract):
        @pytest.fixture
        def open_repository(self, clock):
            store = ...
            opened = []

            def open_another():      # another opened handle on the same store, empty at first
                repository = MyRepository(store, clock=clock)
                repository.open()
                opened.append(repository)
                return repository

            yield open_another
            for repository in opened:
                repository.close()

The suite moves ``clock``, a :class:`~rota.testing.FakeClock`; the database's clock is to
follow its ``offset``.
"""

import pytest

_ROOMS = (
    "setting",
    "inserting",
    "conflicts",
    "claiming",
    "lanes",
    "parking",
    "finishing",
    "repeating",
    "nodes",
    "glancing",
    "rescuing",
    "changing",
    "keeping",
    "recurring",
    "firing",
    "overlapping",
    "firing_races",
    "signals",
    "racing",
    "reporting",
    "children",
    "following",
    "periods",
    "tombstones",
    "pulling",
    "holding",
    "feeding",
    "interleaving",
    "crossing",
    "finding",
    "matching",
    "auditing",
)
pytest.register_assert_rewrite(*(f"{__name__}.{room}" for room in _ROOMS))

from rota.testing.conformance.contract import RepositoryContract  # noqa: E402

__all__ = ["RepositoryContract"]
