"""How Sphinx builds these pages: MyST for text, autodoc for the reference, furo for the look."""  # noqa: INP001 - Sphinx runs it, nobody imports it

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import click
from docutils import nodes
from docutils.parsers.rst import Directive

from rota.cli.main import rota as rota_command

_ENTRY = re.compile(r"^\.\. auto(?:class|data|function|exception):: (\S+)", re.MULTILINE)
_PLURAL = re.compile(r"(?<=\w)``(s\b)")

project = "rota"
author = "the rota authors"
copyright = "2026, the rota authors"  # noqa: A001 - Sphinx's name
release = version = "0.1"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "rota"
html_static_path = ["_static"]
templates_path: list[str] = []
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
# What docs/ does not hold (LICENSE, examples) is linked as a file of the checkout.
myst_all_links_external = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "inherited-members": "Exception,dict,str,object,tuple"}
python_display_short_literal_types = True
python_maximum_signature_line_length = 88

# Nothing is fetched while building: other projects' names are shown, not linked.
intersphinx_mapping: dict[str, Any] = {}
nitpicky = True
#: Names of the standard library and of other projects, and rota's inner rooms.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!rota\.).*"),
    (r"py:.*", r"rota\.(app|background|control|core|middleware|registry)\..*"),
    (r"py:.*", r"rota\.(scheduler|storage|triggers)\..*"),
]
# PostgreSQL's DDL is shown with a placeholder for the schema, which no lexer knows.
suppress_warnings = ["misc.highlighting_failure"]


def documented() -> dict[str, str]:
    """Each name that the reference has an entry for, and the place it is imported from."""
    pages = (Path(__file__).parent / "reference").glob("*.md")
    entries = [name for page in pages for name in _ENTRY.findall(page.read_text())]
    whole = [name if name.startswith("rota.") else f"rota.{name}" for name in entries]
    return {name.rpartition(".")[2]: name for name in whole}


PLACES = documented()


def resolve_face(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Lead a name of an inner room to where it is documented."""
    target = node.get("reftarget", "")
    place = PLACES.get(target.rpartition(".")[2])
    if node.get("refdomain") != "py" or place is None or target == place:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], place, node, content
    )


def mend_plurals(*event: Any) -> None:
    """Let a letter follow a literal, which reStructuredText wants escaped."""
    lines: list[str] = event[-1]
    lines[:] = [_PLURAL.sub(r"``\\ \1", line) for line in lines]


class Commands(Directive):
    """A section for every command of the command line, with its help."""

    def run(self) -> list[nodes.Node]:
        root = click.Context(
            rota_command, info_name="rota", terminal_width=88, max_content_width=88
        )
        return [self._section(command, ctx) for command, ctx in self._walk(rota_command, root)]

    def _walk(
        self, command: click.Command, ctx: click.Context
    ) -> Iterator[tuple[click.Command, click.Context]]:
        yield command, ctx
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                below = command.get_command(ctx, name)
                if below is not None and not below.hidden:
                    yield from self._walk(below, click.Context(below, parent=ctx, info_name=name))

    def _section(self, command: click.Command, ctx: click.Context) -> nodes.Node:
        path = ctx.command_path
        section = nodes.section(ids=[nodes.make_id(path)], names=[path])
        text = command.get_help(ctx)
        section += [nodes.title(text=path), nodes.literal_block(text, text, language="text")]
        return section


def setup(app: Any) -> None:
    app.add_directive("commands", Commands)
    app.connect("autodoc-process-docstring", mend_plurals)
    app.connect("missing-reference", resolve_face)
