"""Every kind of error is one line with its source, key, what was expected and what was found."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl.core import config
from irl.core.errors import UserError
from irl.core.types import BelowOne, Checked, Count, Fraction, Natural, NonEmpty, NonNegative, Positive, Rate, within


@dataclass(frozen=True)
class Inner(Checked):
    kind: Literal["", "a", "b"] = "a"
    sizes: tuple[Count, ...] = (1, 2)
    low: NonNegative = 0.0
    high: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} exceeds high {self.high:g}")


@dataclass(frozen=True)
class Outer(Checked):
    path: str
    flag: bool = False
    count: Natural = 0
    share: Fraction = 0.5
    below: BelowOne = 0.0
    rate: Rate = 1.0
    number: float = 0.0
    name: str | None = None
    weights: dict[str, float] = field(default_factory=lambda: {"x": 1.0})
    layers: dict[str, NonNegative] | None = None
    words: Annotated[tuple[Literal["u", "v"], ...], NonEmpty] = ("u",)
    factors: tuple[Annotated[float, within(0.5, 2)], ...] = (1.0,)
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.flag and not self.count:
            raise ValueError("flag needs a count")


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text="path: p", *overrides, cls=Outer):
        (tmp_path / "c.yaml").write_text(text)
        return config.load(cls, "c.yaml", overrides)

    return load


GOOD = [
    ("number=1", "number", 1.0),
    ("number=1e-3", "number", 1e-3),
    ("number=-2.5E+3", "number", -2500.0),
    ("share=1", "share", 1.0),
    ("name=null", "name", None),
    ("name=1e-3", "name", "1e-3"),
    ("path=", "path", ""),
    ("flag=false", "flag", False),
    ("weights={a: 1, b: 1e-2}", "weights", {"a": 1.0, "b": 0.01}),
    ("layers={encoder.0: 2}", "layers", {"encoder.0": 2.0}),
    ("words=[u, v]", "words", ("u", "v")),
    ("inner.sizes=[3]", "inner", Inner(sizes=(3,))),
    ("inner={low: 1, high: 2}", "inner", Inner(low=1.0, high=2.0)),
]


@pytest.mark.parametrize("override, name, value", GOOD, ids=[line[0] for line in GOOD])
def test_values_become_their_types(load, override, name, value):
    found = getattr(load("path: p", override), name)
    assert found == value and type(found) is type(value)


BAD = [
    ("count=many", "count: expected int, found 'many'"),
    ("count=true", "count: expected int, found True"),
    ("count=1.0", "count: expected int, found 1.0"),
    ("count=1e3", "count: expected int, found '1e3'"),
    ("count=-1", "count: expected int >= 0, found -1"),
    ("share=1.5", "share: expected float in [0, 1], found 1.5"),
    ("share=2", "share: expected float in [0, 1], found 2"),
    ("share=true", "share: expected float, found True"),
    ("share=.nan", "share: expected a finite float, found nan"),
    ("number=.inf", "number: expected a finite float, found inf"),
    ("number='7'", "number: expected float, found '7'"),
    ("below=1", "below: expected float in [0, 1), found 1"),
    ("rate=0", "rate: expected float in (0, 1], found 0"),
    ("flag=1", "flag: expected bool, found 1"),
    ("path=7", "path: expected str, found 7"),
    ("path=null", "path: expected a value, found null"),
    ("words=[]", "words: expected a list that is not empty, found []"),
    ("words=u", "words: expected a list, found 'u'"),
    ("words=[w]", "words: expected one of u, v, found 'w'"),
    ("factors=[3]", "factors: expected float in [0.5, 2], found 3"),
    ("weights=3", "weights: expected names with values, as {NAME: VALUE}, found 3"),
    ("weights={1: 2}", "weights: expected names with values, as {NAME: VALUE}, found {1: 2}"),
    ("weights={a: b}", "weights.a: expected float, found 'b'"),
    ("weights={a:0.3}", "weights: expected a space after the colon, as in {a: 0.3}, found {a:0.3}"),
    ("weights={a: null}", "weights.a: expected a value, found null"),
    ("layers={encoder.0: -1}", "layers.encoder.0: expected float >= 0, found -1"),
    ("inner=3", "inner: expected keys below it, found 3"),
    ("inner=null", "inner: expected keys below it, found None"),
    ("inner.kind=c", "inner.kind: expected one of '', a, b, found 'c'"),
    ("inner.kind=0", "inner.kind: expected one of '', a, b, found 0"),
    ("inner.sizes=[1, 0]", "inner.sizes: expected int >= 1, found 0"),
    ("inner.high=0", "inner.high: expected float > 0, found 0"),
    ("inner.low=3", "inner: low 3 exceeds high 1"),
    ("flag=true", "flag needs a count"),
    ("foo=1", "unknown key foo, known are path, flag, count"),
    ("inner.foo=1", "unknown key inner.foo, known are kind, sizes, low, high"),
    ("count", "expected key=value, found 'count'"),
    ("words=[u", "words: '[u' is not valid YAML"),
    ("path.a=1", "path: expected str, found {'a': 1}"),
]


@pytest.mark.parametrize("override, message", BAD, ids=[line[0] for line in BAD])
def test_errors_of_the_command_line(load, override, message):
    with pytest.raises(UserError) as error:
        load("path: p", override)
    assert str(error.value).startswith(f"command line: {message}") and "\n" not in str(error.value)


def test_errors_name_the_strongest_source_that_sets_the_key(load, tmp_path):
    (tmp_path / "weak.yaml").write_text("path: p\ncount: -1\ninner: {low: 2}\n")
    for text, overrides, message in [
        ("base: weak.yaml", [], "weak.yaml: count: expected int >= 0, found -1"),
        ("base: weak.yaml\ncount: x", [], "c.yaml: count: expected int, found 'x'"),
        ("base: weak.yaml\ncount: 1", [], "weak.yaml: inner: low 2 exceeds high 1"),
        ("base: weak.yaml\ncount: 1\ninner: {high: 1.5}", [], "c.yaml: inner: low 2 exceeds high 1.5"),
        ("base: weak.yaml\ncount: 1", ["inner.kind=b"], "weak.yaml: inner: low 2 exceeds high 1"),
        ("count: 1", [], "c.yaml: path: expected a value, but the key is missing"),
        ("count: 1", ["count=2"], "c.yaml: path: expected a value, but the key is missing"),
        ("path: [", [], "c.yaml: not valid YAML: "),
        ("- path", [], "c.yaml: expected `key: value` lines, found list"),
        ("base: 3", [], "c.yaml: base: expected the name of a file, found 3"),
        ("base: none.yaml", [], "c.yaml: base: none.yaml: no such configuration file, known are c, weak"),
        ("base: c.yaml", [], "c.yaml: base: a circle, c.yaml -> c.yaml"),
        ("path: p", ["count=1", "count.a=1"], "command line: count.a: count was given a value and keys both"),
    ]:
        with pytest.raises(UserError) as error:
            load(text, *overrides)
        assert str(error.value).startswith(message) and "\n" not in str(error.value), text


def write(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_bases_are_chained_across_folders(tmp_path):
    write(tmp_path, a__top="path: top\ncount: 1\nweights: {x: 1, y: 2}", b__mid="base: ../a/top.yaml\ncount: 2")
    write(tmp_path, b__low="base: mid.yaml\nweights: {z: 3}\ninner: {low: 0.5}")
    found = config.load(Outer, tmp_path / "b/low.yaml", ["inner.kind=b"])
    assert found == Outer("top", count=2, weights={"z": 3.0}, inner=Inner("b", low=0.5))
    write(tmp_path, a__top="base: ../b/low.yaml")
    with pytest.raises(
        UserError, match=r"top.yaml: base: a circle, .*low.yaml -> .*mid.yaml -> .*top.yaml -> .*low.yaml$"
    ):
        config.load(Outer, tmp_path / "b/low.yaml")


def test_a_file_that_a_folder_lacks_is_that_of_methods_applied_to_the_folder(tmp_path, monkeypatch):
    write(tmp_path, methods__loss="base: start.yaml\nnumber: 1", methods__more="base: loss.yaml\nshare: 0.25")
    write(tmp_path, one__start="path: one", two__start="path: two", two__loss="base: ../methods/loss.yaml\ncount: 2")
    write(tmp_path, three__start="path: three", three__loss="base: ../two/loss.yaml")
    assert config.load(Outer, tmp_path / "one/loss.yaml") == Outer("one", number=1.0)
    assert config.load(Outer, tmp_path / "one/more.yaml") == Outer("one", number=1.0, share=0.25)
    # A folder's own file is taken also where a method names it as its base.
    assert config.load(Outer, tmp_path / "two/more.yaml") == Outer("two", number=1.0, count=2, share=0.25)
    assert config.load(Outer, tmp_path / "three/more.yaml") == Outer("three", number=1.0, count=2, share=0.25)
    monkeypatch.chdir(tmp_path / "one")
    assert config.load(Outer, "more.yaml") == Outer("one", number=1.0, share=0.25)
    with pytest.raises(UserError, match="^other.yaml: no such configuration file, known are loss, more, start$"):
        config.load(Outer, "other.yaml")


def test_configurations_made_in_python_are_checked_too():
    assert Outer("p", number=1, words=["u"]) == Outer("p", number=1.0, words=("u",))
    with pytest.raises(ValueError, match=r"^share: expected float in \[0, 1\], found 2$"):
        Outer("p", share=2)
    with pytest.raises(ValueError, match="^kind: expected one of"):
        replace(Inner(), kind="c")


floats = st.floats(0, 1e6)
inners = st.builds(
    Inner, st.sampled_from(["", "a", "b"]), st.lists(st.integers(1), max_size=3), st.just(0.0), floats.filter(bool)
)
outers = st.builds(
    Outer,
    path=st.text(),
    count=st.integers(1, 2**70),
    flag=st.booleans(),
    share=st.floats(0, 1),
    number=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**40), 2**40),
    name=st.none() | st.text(),
    weights=st.dictionaries(st.text(), floats, max_size=3),
    layers=st.none() | st.dictionaries(st.text(), floats, max_size=3),
    words=st.lists(st.sampled_from(["u", "v"]), min_size=1, max_size=3),
    inner=inners,
)


@given(outers)
def test_round_trip(outer):
    resolved = config.to_dict(outer)
    assert config.from_dict(Outer, resolved, "x") == outer
    assert config.to_dict(config.from_dict(Outer, resolved, "x")) == resolved
    assert config.from_dict(Outer, {"path": outer.path, **config.changes(outer)}, "x") == outer
    assert config.digest(resolved) == config.digest(config.to_dict(replace(outer)))


def test_the_clean_phase_may_be_a_share():
    from irl.training.config import TrainConfig

    for updates, share, expected in ((20, 0.5, 10), (5, 0.5, 2), (900, 0.1, 90), (20, 10, 10), (20, 0, 0), (1, 1, 1)):
        assert TrainConfig(updates=updates, clean_updates=share).clean_updates == expected
    assert config.to_dict(TrainConfig(updates=20, clean_updates=0.5)) == config.to_dict(
        TrainConfig(updates=20, clean_updates=10)
    )
    for wrong, message in ((1.5, "expected int, found 1.5"), (-0.5, "found -0.5"), (21, "0.5 is half of them")):
        with pytest.raises(ValueError, match=message):
            TrainConfig(updates=20, clean_updates=wrong)


@pytest.mark.parametrize("seed", [2**64, 2**63, -(2**63) - 1, 10**30, 1.5])
def test_seeds_that_no_generator_takes_are_refused(seed):
    from irl.language.config import LanguageConfig

    with pytest.raises(ValueError, match="seed: expected int"):
        LanguageConfig("a", "b", "c", seed=seed)
    assert LanguageConfig("a", "b", "c", seed=-(2**63)).seed == -(2**63)


@pytest.mark.parametrize(
    "value", ["a #1", "a: b", "{1}", "[a", "*a", "a b", "2020-01-01", "-x", "@a", "%a", "'a", "7 #1"]
)
def test_texts_on_the_command_line_are_taken_as_they_are(load, value):
    """A path may hold what YAML reads as a comment, a mapping, a list or a date."""
    assert load("path: p", f"path={value}").path == value


def test_quotes_on_the_command_line_are_those_of_yaml(load):
    assert load("path: p", "path='7'").path == "7" and load("path: p", 'path="a: b"').path == "a: b"
    assert load("path: p", "path=").path == ""
    assert load("path: p", "weights={y: 2}", "words=[v]").weights == {"y": 2.0}


@pytest.mark.parametrize("value", ["2001-99-99", "!!timestamp x", "[" * 3000])
def test_what_yaml_cannot_make_is_text_or_one_line(tmp_path, value):
    (tmp_path / "x.yaml").write_text("path: p\n")
    if len(value) < 20:
        assert config.load(Outer, tmp_path / "x.yaml", [f"path={value}"]).path == value
    (tmp_path / "x.yaml").write_text(f"path: {value}\n")
    with pytest.raises(UserError, match="x.yaml: not valid YAML: "):
        config.load(Outer, tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text('"a\\nb": 1\n')
    with pytest.raises(UserError, match="x.yaml: unknown key a b, known are "):
        config.load(Outer, tmp_path / "x.yaml")
