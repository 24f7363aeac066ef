"""Fixtures of the command line's tests."""

from tests.cli.places import *  # noqa: F403 - fixtures are found by name
