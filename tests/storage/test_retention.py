"""How long history is kept, as a value."""

from __future__ import annotations

from datetime import timedelta

from rota.core.retention import Retention


def test_retention_says_how_long_each_kind_is_kept() -> None:
    chosen = Retention(done=3600, failed=None)
    assert (chosen.span(failed=False), chosen.span(failed=True)) == (timedelta(hours=1), None)
    assert chosen.longest is None
    assert Retention(failed=timedelta(days=1)).longest == timedelta(days=7)
    assert Retention.decode(chosen.encode()) == chosen
    assert str(chosen) == "done 1:00:00, failed for ever"
