"""User types through the codec: found in annotations, rebuilt exactly, refused when unknown."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, make_dataclass
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, auto
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    TypedDict,
    TypeVar,
)

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, create_model

import kitaru.codec as codec
from kitaru.errors import KitaruSerializationError

if TYPE_CHECKING:
    pass

T = TypeVar("T")


class Color(Enum):
    RED = "r"
    SCARLET = "r"
    BLUE = ("b", 1)


Level = IntEnum("Level", ["LOW"])
Word = StrEnum("Word", ["YES"])


class Access(Flag):
    READ = auto()
    WRITE = auto()
    BOTH = READ | WRITE
    EXECUTE = auto()


Bits = IntFlag("Bits", ["ONE"])


@dataclass
class Item:
    name: str
    price: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    items: list[Item]
    color: Color | None = None
    total: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(item.price for item in self.items))


@dataclass
class Node:
    value: int
    children: list[Node] = field(default_factory=list)
    parent_hint: Node | None = None


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


@dataclass
class Counted:
    start: InitVar[int]
    count: int = 0
    calls = 0

    def __post_init__(self, start: int) -> None:
        Counted.calls += 1
        self.count = start

    @functools.cached_property
    def double(self) -> int:
        return self.count * 2


@dataclass
class Special(Item):
    extra: int = 1


class Point(NamedTuple):
    x: int
    item: Item | None = None


class Options(TypedDict):
    item: Item
    also: NotRequired[Annotated[Level, "doc"]]


class User(BaseModel):
    id: int = Field(gt=0)
    tags: set[str] = set()
    item: Item | None = None
    friends: list[User] = []


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Item] = Field(init=False)
    a: int = 1


class Private(BaseModel):
    a: int = 1
    _item: Item | None = PrivateAttr(None)
    _cache: dict[str, int] = PrivateAttr(default_factory=dict)
    _unset: int


class Page(BaseModel, Generic[T]):
    items: list[T]


class Items(RootModel[list[Item]]):
    pass


Alias = NewType("Alias", Item)
loose = Loose.model_validate({"a": 2, "é &": Item("x")})
private = Private()
private._item = Item("p")
private._cache["k"] = 1
skipped = User.model_construct(id=-5, tags=["wrong"])

ACCEPTED: list[tuple[Any, Any]] = [
    (Color.RED, Color),
    (Color.SCARLET, Literal[Color.BLUE]),
    ({Color.BLUE: Level.LOW, "w": Word.YES}, Mapping[Color | str, Level | Word]),
    ([Access.READ | Access.EXECUTE, Access(0), Access.BOTH, ~Access.READ], list[Access]),
    (Bits.ONE | 64, Bits),
    (Item("a", 1.5), Item),
    (Order(items=[Item("a", 2.0)], color=Color.RED), Order),
    (Node(1, [Node(2, [Node(3)])], Node(0)), Node),
    (Box(Item("b")), Box[Item]),
    ({Box(Point(1)), Box(2)}, set[Box[Point | int]]),
    (Counted(3), Counted),
    ((Point(1), Point(2, Item("n"))), tuple[Point, ...]),
    ({"item": Item("d"), "also": Level.LOW}, Options),
    (User(id=1, friends=[User(id=2, item=Item("u"))]), User),
    (skipped, User),
    (loose, Loose),
    (private, Private),
    (Page[Item](items=[Item("p")]), Page[Item]),
    (Page(items=[Item("q")]), Page[Item]),
    (Page[Page[int]](items=[Page[int](items=[1])]), Page[Page[int]]),
    (Items([Item("r")]), Items),
    ([Item("s")], Sequence[Annotated[Alias, "why"]]),
    ({"k": [Item("t"), Level.LOW]}, "dict[str, list[Item | Level]]"),
]


def declared(annotation: Any) -> codec.DeclaredTypes:
    def function() -> None: ...

    function.__annotations__["return"] = annotation
    return codec.return_types(function)


@pytest.mark.parametrize(("value", "annotation"), ACCEPTED, ids=range(len(ACCEPTED)))
def test_a_declared_instance_comes_back_equal_and_of_its_type(value: Any, annotation: Any) -> None:
    types = declared(annotation)
    data = codec.encode(value, types=types)
    back = codec.decode(data, types=types)
    assert type(back) is type(value)
    assert back == value
    assert codec.encode(back, types=types) == data
    assert codec.encode_any(value, path="v") == data
    assert codec.fingerprint(back, path="v") == codec.fingerprint(value, path="v")
    assert codec.plain(data) is not None
    with pytest.raises(KitaruSerializationError, match="not a declared type"):
        codec.decode(data)


def test_a_model_comes_back_with_fields_set_extra_and_private_state() -> None:
    types = codec.declared_types(User, Loose, Private)
    back = codec.decode(codec.encode([skipped, loose, private], types=types), types=types)
    assert back[0].model_fields_set == {"id", "tags"}
    assert back[0].tags == ["wrong"], "validators must not run again"
    assert back[1].model_extra == loose.model_extra
    assert back[2].__pydantic_private__ == {"_item": Item("p"), "_cache": {"k": 1}}


def test_rebuilding_runs_no_post_init_and_leaves_out_cached_properties() -> None:
    value, types = Counted(4), codec.declared_types(Counted)
    assert value.double == 8
    calls = Counted.calls
    back = codec.decode(codec.encode(value, types=types), types=types)
    assert Counted.calls == calls
    assert vars(back) == {"count": 4}


def test_fields_set_does_not_count_for_the_fingerprint() -> None:
    users = User(id=1), User(id=1, friends=[])
    assert len({codec.fingerprint(user, path="v") for user in users}) == 1


def test_a_class_local_to_a_function_is_found_by_the_annotation_that_uses_it() -> None:
    @dataclass
    class Local:
        next: Local | None = None

    def make() -> Local | None:
        return Local()

    types = codec.return_types(make)
    value = Local(Local())
    assert codec.decode(codec.encode(value, types=types), types=types) == value


@pytest.mark.parametrize(
    ("value", "annotation", "says"),
    [
        ([Item("a")], list[Any], r"^v\[0\] is a Item \(.*not a declared type.*annotate"),
        (Box(Color.RED), Box, r"^v\.content is a Color .*not a declared type"),
        (Special("s"), Item, r"^v is a Special, but only its base Item is declared.*Item \| Spec"),
        (User(id=1, item=Special("s")), User, r"^v\.item is a Special, but only its base Item"),
        (Item(name=print), Item, r"^v\.name is a builtin"),
        (
            loose.model_copy(update={"z": object()}),
            Loose,
            r'^v\.model_extra\["z"\] is a builtins.object',
        ),
        (Item("a"), "Missing | Item", r"could not be resolved.*'Missing'.*TYPE_CHECKING"),
        (Item("a"), "list[", "could not be resolved"),
    ],
)
def test_what_is_not_declared_is_refused_with_the_way_out(
    value: Any, annotation: Any, says: str
) -> None:
    with pytest.raises(KitaruSerializationError, match=says):
        codec.encode(value, types=declared(annotation), path="v")


def test_state_beside_the_fields_is_refused_rather_than_lost() -> None:
    item = Item("a")
    item.note = "x"
    with pytest.raises(KitaruSerializationError, match="'note' that is not a field"):
        codec.encode(item, types=codec.declared_types(Item))
    partial = User.model_construct()
    del partial.__dict__["tags"]
    with pytest.raises(KitaruSerializationError, match="field 'id' has no value"):
        codec.encode(partial, types=codec.declared_types(User))


@dataclass
class Failure(Exception):
    code: int


def test_a_dataclass_with_a_built_in_base_is_refused() -> None:
    with pytest.raises(KitaruSerializationError, match="cannot be recorded"):
        codec.encode(Failure(1), types=codec.declared_types(Failure))


def renamed(cls: Any, *, module: str, qualname: str) -> Any:
    cls.__module__, cls.__qualname__ = module, qualname
    return cls


def test_a_type_recorded_by_a_script_is_found_when_its_file_is_imported() -> None:
    script = renamed(make_dataclass("A", ["x"]), module="__main__", qualname="A")
    imported = renamed(make_dataclass("A", ["x"]), module="job", qualname="A")
    data = codec.encode(script(1), types=codec.declared_types(script))
    assert codec.decode(data, types=codec.declared_types(imported)) == imported(1)
    assert codec.fingerprint(script(1), path="v") == codec.fingerprint(imported(1), path="v")
    other = renamed(make_dataclass("A", ["x"]), module="other", qualname="A")
    with pytest.raises(KitaruSerializationError, match="2 declared types match"):
        codec.decode(data, types=codec.declared_types(imported, other))


def test_two_declared_types_of_one_name_are_refused() -> None:
    twins = [renamed(make_dataclass("A", ["x"]), module="m", qualname="A") for _ in range(2)]
    with pytest.raises(KitaruSerializationError, match="two declared types share"):
        codec.encode(twins[0](1), types=codec.declared_types(*twins))


def evolved(kind: str, *names: str, **defaults: Any) -> Any:
    if kind == "dataclass":
        fields = [*names, *((k, Any, field(default=v)) for k, v in defaults.items())]
        cls: Any = make_dataclass("V", fields)
    elif kind == "model":
        given: Any = {
            **dict.fromkeys(names, (Any, ...)),
            **{k: (Any, v) for k, v in defaults.items()},
        }
        cls = create_model("V", **given)
    elif kind == "namedtuple":
        cls = NamedTuple("V", [(name, Any) for name in (*names, *defaults)])
        cls._field_defaults.update(defaults)
    else:
        cls = Enum("V", names)
    return renamed(cls, module="m", qualname="V")


RECORD_KINDS = pytest.mark.parametrize("kind", ["dataclass", "model", "namedtuple"])


@RECORD_KINDS
def test_a_field_added_with_a_default_is_filled(kind: str) -> None:
    old, new = evolved(kind, "a"), evolved(kind, "a", b=7)
    data = codec.encode(old(a=1), types=codec.declared_types(old))
    back = codec.decode(data, types=codec.declared_types(new))
    assert (type(back), back.a, back.b) == (new, 1, 7)


@RECORD_KINDS
@pytest.mark.parametrize(("names", "says"), [(["a", "c"], "c"), (["b"], "a"), ([], "a")])
def test_a_field_that_came_or_went_is_named(kind: str, names: list[str], says: str) -> None:
    old, new = evolved(kind, "a"), evolved(kind, *names)
    data = codec.encode([old(a=1)], types=codec.declared_types(old))
    with pytest.raises(KitaruSerializationError, match=rf"^v\[0\] was recorded as a V .* {says},"):
        codec.decode(data, types=codec.declared_types(new), path="v")


def test_an_enum_member_that_went_is_named() -> None:
    old, new = evolved("enum", "A", "B"), evolved("enum", "A")
    data = codec.encode(old.B, types=codec.declared_types(old))
    with pytest.raises(KitaruSerializationError, match=r"V\.B, which the class no longer has"):
        codec.decode(data, types=codec.declared_types(new))


def test_a_type_of_another_kind_than_recorded_is_refused() -> None:
    old, new = evolved("dataclass", "a"), evolved("model", "a")
    data = codec.encode(old(1), types=codec.declared_types(old))
    with pytest.raises(KitaruSerializationError, match="now another kind of type"):
        codec.decode(data, types=codec.declared_types(new))


def test_instances_nested_to_the_limit_come_back() -> None:
    value = Node(0)
    for _ in range(codec.MAX_DEPTH - 2):
        value = Node(0, parent_hint=value)
    types = codec.declared_types(Node)
    data = codec.encode(value, types=types)
    assert codec.encode(codec.decode(data, types=types), types=types) == data
    value.parent_hint = value
    with pytest.raises(KitaruSerializationError, match=r"^v\.parent_hint is v again \(Node\)"):
        codec.encode(value, types=types, path="v")


@pytest.mark.parametrize("kind", ["enum", "flag", "dataclass", "namedtuple", "model"])
def test_a_planted_type_name_imports_and_calls_nothing(kind: str) -> None:
    sys.modules.pop("this", None)
    payload = {"enum": '"x"', "flag": '["x"]'}.get(kind, '{"command":"exit 1"}')
    rest = ',"set":[]' if kind == "model" else ""
    for name in ("this:s", "os:system", "subprocess:Popen", "builtins:object"):
        data = f'{{"$":"{kind}","t":"{name}","v":{payload}{rest}}}'.encode()
        with pytest.raises(KitaruSerializationError, match=f"recorded as a {name}"):
            codec.decode(data, types=codec.declared_types(Item, Color))
        codec.plain(data)
    assert "this" not in sys.modules


def test_user_code_that_fails_while_rebuilding_is_reported_as_a_refusal() -> None:
    class Bad(NamedTuple):
        a: int

        def __hash__(self) -> int:
            raise OSError("no hash")

    types = codec.declared_types(Bad)
    data = b'{"$":"set","v":' + codec.encode([Bad(1)], types=types) + b"}"
    with pytest.raises(KitaruSerializationError, match="no hash"):
        codec.decode(data, types=types)
