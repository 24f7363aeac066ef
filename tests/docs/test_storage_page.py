"""The page on storage shows the DDL that is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rota.storage.schema import step_0001

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "storage.md"


@pytest.mark.parametrize(
    ("name", "ddl"), [("postgresql", step_0001.POSTGRESQL), ("sqlite", step_0001.SQLITE)]
)
def test_the_ddl_on_the_page_is_the_ddl_of_the_step(name: str, ddl: str) -> None:
    shown = re.search(rf"<!-- ddl: {name} -->\s+```sql\n(.*?)\n```", PAGE.read_text(), re.DOTALL)

    assert shown is not None
    assert shown.group(1) == ddl.strip()
