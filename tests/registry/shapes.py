"""Types the registry tests convert; at module level, so that their annotations resolve."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NewType, NotRequired, Required, TypedDict
from uuid import UUID

UserId = NewType("UserId", int)
Money = Annotated[Decimal, "in euro"]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Item:
    name: str
    price: float
    colour: Colour = Colour.RED


@dataclass
class Order:
    id: UUID
    items: list[Item]
    placed: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    notes: dict[str, str] = field(default_factory=dict)
    total: float = field(init=False, default=0.0)


@dataclass
class Positive:
    value: int

    def __post_init__(self) -> None:
        if self.value <= 0:
            raise ValueError("value must be above 0")


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)
    parent: Tree | None = None


class Point(NamedTuple):
    x: int
    y: int = 0


class Address(TypedDict):
    street: str
    since: date
    flat: NotRequired[int]


class Loose(TypedDict, total=False):
    key: Required[str]
    wait: timedelta


@dataclass
class Everything:
    order: Order
    where: Address
    points: tuple[Point, ...]
    pair: tuple[int, Colour]
    levels: set[Level]
    by_user: dict[int, Money]
    file: Path | None = None
    any: Any = None


class Connection:
    """Nothing JSON could hold."""


@dataclass
class HoldsConnection:
    connection: Connection
