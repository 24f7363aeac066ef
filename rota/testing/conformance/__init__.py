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

import pkgutil

import pytest

_SUBJECTS = [module.name for module in pkgutil.iter_modules(__path__)]
pytest.register_assert_rewrite(*(f"{__name__}.{subject}" for subject in _SUBJECTS))

from rota.testing.conformance.contract import RepositoryContract  # noqa: E402

__all__ = ["RepositoryContract"]
