"""What the codec refuses: values it cannot hold, values beyond its limits, damaged bytes."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import datetime, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kitaru.codec as codec
from kitaru.errors import KitaruSerializationError


class Text(str):
    pass


class Zone(tzinfo):
    pass


Pair = namedtuple("Pair", "a b")


def numbers() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"items": [0, {"f": numbers}]}, 'result["items"][1]["f"] is a function (numbers)'),
        ([[lambda: 0]], "result[0][0] is a function"),
        ((1, print), "result[1] is a builtin_function_or_method (print)"),
        ([numbers()], "result[0] is a generator"),
        ({"k": iter(())}, 'result["k"] is a tuple_iterator'),
        ({"k": {}.keys()}, 'result["k"] is a dict_keys'),
        ({1: str}, "result[1] is a class (str)"),
        ({None: json}, "result[None] is a module (json)"),
        ({"a": object()}, 'result["a"] is a builtins.object'),
        ({(1, 2): object()}, "result[<tuple>] is a"),
        ({"a": 1, Text("b"): 2}, "result.keys()[1] is a Text, a subclass of str"),
        ([Text("x")], "result[0] is a Text, a subclass of str"),
        ({frozenset([Text("x")])}, "result{...}{...} is a Text"),
        (OrderedDict(a=1), "result is a OrderedDict, a subclass of dict"),
        (defaultdict(int), "result is a defaultdict, a subclass of dict"),
        (Counter("a"), "result is a Counter, a subclass of dict"),
        (deque([1]), "result is a deque, which is not a built-in type: convert it with list"),
        (Pair(1, 2), "result is a Pair"),
        ([threading.Lock()], "result[0] is a _thread.lock"),
        ([ValueError("x")], "result[0] is a builtins.ValueError"),
        ([memoryview(b"")], "result[0] is a memoryview"),
        ([Ellipsis], "result[0] is a builtins.ellipsis"),
        ([NotImplemented], "result[0] is a builtins.NotImplementedType"),
        ([datetime(2024, 1, 1, tzinfo=Zone())], "result[0] is a datetime that cannot be recorded"),
        ({"x" * 99: {1, print}}, 'result["' + "x" * 40 + '"]{...} is a builtin'),
        ({1 << 64: print}, "result[<int>] is a builtin"),
    ],
)
def test_what_cannot_be_held_is_refused_with_its_path(value: Any, says: str) -> None:
    with pytest.raises(KitaruSerializationError) as caught:
        codec.encode(value, path="result")
    assert str(caught.value).startswith(says)


def test_an_open_file_is_refused() -> None:
    with (
        open(os.devnull) as file,
        pytest.raises(KitaruSerializationError, match=r"^v\[0\] is a TextIOWrapper.*its path"),
    ):
        codec.encode([file], path="v")


def test_a_value_that_contains_itself_is_refused_with_both_ends_of_the_circle() -> None:
    inner: list[Any] = []
    value = {"a": [0, {"b": inner}]}
    inner.append(value["a"])
    with pytest.raises(KitaruSerializationError, match="cannot contain itself") as caught:
        codec.encode(value, path="v")
    assert str(caught.value).startswith('v["a"][1]["b"][0] is v["a"] again (list)')


def nested(depth: int, *, leaf: Any = 0) -> Any:
    for level in range(depth):
        leaf = {"k": leaf} if level % 2 else [leaf]
    return leaf


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {1: v}])
def test_nesting_is_recorded_up_to_its_limit_and_refused_beyond(wrap: Any) -> None:
    fits = wrap(nested(codec.MAX_DEPTH - 1))
    data = codec.encode(fits)
    assert codec.decode(data) == fits
    json.dumps(codec.plain(data))
    for walk in (codec.encode, lambda v: codec.fingerprint(v, path="v")):
        with pytest.raises(KitaruSerializationError, match="200 levels, MAX_DEPTH"):
            walk(wrap(nested(codec.MAX_DEPTH)))


@pytest.mark.parametrize("depth", [codec.MAX_DEPTH + 1, 100_000])
@pytest.mark.parametrize("leaf", ["0", '{"$":"tuple","v":[]}'])
def test_bytes_nested_too_deep_are_refused(depth: int, leaf: str) -> None:
    data = ("[" * depth + leaf + "]" * depth).encode()
    with pytest.raises(KitaruSerializationError, match="MAX_DEPTH"):
        codec.decode(data)


def test_a_wide_record_is_not_mistaken_for_a_deep_one() -> None:
    value = [[[]] for _ in range(1000)]
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(
    "value", ["x" * 101, b"x" * 101, [0] * 101, ["é" * 60], {"k": {"k" * 50: "v" * 50}}]
)
def test_a_value_over_the_size_limit_is_refused(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec.encode(value)
    monkeypatch.setattr(codec, "MAX_VALUE_BYTES", 100)
    with pytest.raises(KitaruSerializationError, match=r"^v.* bytes .*MAX_VALUE_BYTES"):
        codec.encode({"big": value}, path="v")


def test_a_value_that_multiplies_itself_by_sharing_is_refused_before_it_is_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codec, "MAX_VALUE_BYTES", 10_000)
    value: list[Any] = []
    for _ in range(100):
        value = [value, value]
    with pytest.raises(KitaruSerializationError, match="MAX_VALUE_BYTES"):
        codec.encode(value)


TAGS = "str int float bytes bytearray complex range datetime time date timedelta timezone dict"
TAGS += " ZoneInfo Decimal UUID Fraction PosixPath WindowsPath tuple set frozenset enum flag"
TAGS += " dataclass namedtuple model pickle os.system __class__"
tag_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["os:system", "2024-01-01T00:00:00", "1/0", "nan", "0x1", "=", "../../etc"]),
    lambda inner: st.lists(inner, max_size=4) | st.fixed_dictionaries(
        {"$": st.sampled_from(TAGS.split()) | inner, "v": inner},
        optional={"t": st.text(max_size=3), "set": inner, "private": inner, "extra": inner},
    ),
    max_leaves=10,
)  # fmt: skip


@given(st.binary() | tag_like.map(lambda tree: json.dumps(tree).encode()))
def test_bytes_from_elsewhere_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    for read in (codec.decode, codec.plain):
        try:
            value = read(data)
        except KitaruSerializationError:
            continue
        if read is codec.plain:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a record"),
        (b"[NaN]", "is not a record: NaN is not JSON"),
        (b"\xff", "is not a record"),
        (b"1" * 5000, "is not a record"),
        (b'[{"$":"os.system","v":"x"}]', r"\[0\] has the unknown tag 'os.system'"),
        (b'{"$":[],"v":1}', "has the unknown tag"),
        (b'{"\\u0024":"tuple","v":1}', "is damaged: a tuple is misshapen"),
        (b'{"$":"tuple","v":[],"w":1}', "is damaged: a tuple is misshapen"),
        (b'{"$":"set","v":[1,1.0]}', "holds an item twice"),
        (b'{"$":"set","v":[[]]}', "was recorded as a set that cannot be rebuilt"),
        (b'{"$":"dict","v":[1]}', "was recorded as a dict that cannot be rebuilt"),
        (b'{"$":"Fraction","v":[1,0]}', "was recorded as a Fraction that cannot be rebuilt"),
        (b'{"$":"ZoneInfo","v":"../../etc/passwd"}', "cannot be rebuilt"),
        (b'{"a":{"$":"enum","t":"os:system","v":"x"}}', r'\["a"\] was recorded as a os:system'),
    ],
)
def test_damaged_records_are_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(KitaruSerializationError, match=f"^value ?{says}|^value.*{says}"):
        codec.decode(data)


@pytest.mark.skipif(os.name != "posix", reason="the other platform refuses the other path")
def test_a_path_of_another_platform_is_refused_but_shown() -> None:
    data = b'{"$":"WindowsPath","v":"C:\\\\x"}'
    with pytest.raises(KitaruSerializationError, match="WindowsPath that cannot be rebuilt"):
        codec.decode(data)
    assert codec.plain(data) == "C:\\x"
