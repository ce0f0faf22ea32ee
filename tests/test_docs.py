"""The documentation: its code runs, its links lead somewhere, and it names what is public and what is checked."""

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tools" / "docs" / "pages"
PAGES = sorted(FOLDER.rglob("*.md"))
REFERENCE = (FOLDER / "reference.md").read_text()
PUBLIC = ["irl", "irl.objective", "irl.noise"]


def page_id(path):
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def blocks(page):
    """The Python code of a page, with the line of each block."""
    text = page.read_text()
    return [(text[: m.start()].count("\n") + 1, m[1]) for m in re.finditer(r"```python\n(.*?)```", text, re.S)]


def foreign(code):
    """Modules that a block imports and that are not installed."""
    nodes = list(ast.walk(ast.parse(code)))
    names = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
    return sorted({name.split(".")[0] for name in names if importlib.util.find_spec(name.split(".")[0]) is None})


@pytest.fixture
def user(tmp_path, monkeypatch):
    """Where a reader works: beside folders of noises, talkers, rooms and recordings."""
    soundfile, rng = pytest.importorskip("soundfile"), np.random.default_rng(0)
    for name, size in (("noises", 9000), ("talkers", 12000), ("rirs", 400), ("recordings", 6000)):
        (tmp_path / name).mkdir()
        for i in range(5):
            wave = 0.2 * rng.normal(size=size) * (np.exp(-np.arange(size) / 80) if name == "rirs" else 1)
            soundfile.write(tmp_path / name / f"{i}.wav", wave, 16000)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=page_id)
def test_code(page, user):
    """The blocks of a page run one after another, as a reader would type them."""
    names = {"__name__": "page"}
    for line, code in blocks(page):
        if missing := foreign(code):
            pytest.skip(f"line {line}: needs {', '.join(missing)}")
        exec(compile("\n" * line + code, str(page), "exec"), names)


COMMANDS = [(page, line.strip()) for page in PAGES for line in re.findall(r"^    (irl .*)$", page.read_text(), re.M)]


@pytest.mark.parametrize("page, command", COMMANDS, ids=[command for _, command in COMMANDS])
def test_commands(page, command, user, monkeypatch):
    """Commands of a page run as they are printed, beside the reader's folders."""
    name, *arguments = command.split()[1:]
    monkeypatch.setattr("sys.argv", [name, *arguments])
    importlib.import_module(f"irl.bin.{name}").main()
    assert len((Path(arguments[1]) / "params").read_text().splitlines()) == len(list(Path(arguments[0]).iterdir()))


def anchors(path):
    """The anchors of a Markdown file's headings, as GitHub and mkdocs form them."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    titles = [re.sub(r"[^\w\s-]", "", title.lower()).strip() for title in re.findall(r"^#+ (.*)$", text, re.M)]
    return {re.sub(r"[\s-]+", "-", title) for title in titles} | {title.replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def test_every_page_is_in_the_navigation():
    yaml = pytest.importorskip("yaml")
    found = set()

    def walk(tree):
        for item in tree if isinstance(tree, list) else tree.values():
            found.add(item) if isinstance(item, str) else walk(item)

    walk(yaml.safe_load((FOLDER.parent / "mkdocs.yml").read_text())["nav"])
    assert {page.relative_to(FOLDER).as_posix() for page in PAGES} <= found
    assert all((FOLDER / name).exists() or (ROOT / name).exists() for name in found)


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_explained(module):
    for name in importlib.import_module(module).__all__:
        found = getattr(importlib.import_module(module), name)
        if name == "__version__":
            continue
        assert re.search(rf"^::: {re.escape(module)}\.{name}$|^::: irl\.{name}$", REFERENCE, re.M), name
        if inspect.isclass(found) or inspect.isfunction(found):
            # A dataclass without a docstring gets its signature.
            own = str(inspect.signature(found)).replace(" -> None", "")
            assert found.__doc__ and found.__doc__ != name + own, name
            prose = re.sub(r"`[^`]*`|^ {8,}.*$", "", found.__doc__, flags=re.M)
            assert not re.search(r"\]\s?[\[(]", prose), f"{name}: Markdown reads brackets in a row as a link"


@pytest.mark.parametrize("path", sorted((ROOT / "irl" / "integrations").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_integrations_are_explained(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
            assert f"::: irl.integrations.{path.stem}.{node.name}\n" in REFERENCE + "\n", node.name


# Where the library looks at what its users give it.
CHECKED = [
    *(f"models/{name}.py" for name in ("tap", "hooks", "lens", "ema")),
    *(
        f"objective/{name}.py"
        for name in ("irl_loss", "pairing", "passes", "view_check", "vectors", "vicreg", "distances", "gradient_check")
    ),
    *(f"noise/{name}.py" for name in ("functions", "wave_functions", "image_functions", "word_functions")),
    *("core/output.py", "core/epoch.py", "data/pairs.py"),
    *(f"integrations/{path.name}" for path in (ROOT / "irl" / "integrations").glob("[a-z]*.py")),
]


def literal(node):
    """The text of a message, with an ellipsis for what is known when it is raised."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%\w", "…", str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return literal(node.left) + literal(node.right)
    return "…"


def messages(path):
    """Every error and warning that a module raises, as a text."""
    for node in ast.walk(ast.parse(path.read_text())):
        call = node.exc if isinstance(node, ast.Raise) else node
        name = getattr(call, "func", None)
        raised = isinstance(node, ast.Raise) and getattr(name, "id", "") in ("ValueError", "UserError", "TypeError")
        if (raised or getattr(name, "attr", "") == "warning") and call.args:
            yield f"{path.name}:{node.lineno}", literal(call.args[0])


def test_the_page_of_checks_names_every_check_and_no_other():
    rows = re.findall(r"^\| `(.+?)` \|", (FOLDER / "checks.md").read_text(), re.M)
    assert len(set(rows)) == len(rows)
    known = {place: text for file in CHECKED for place, text in messages(ROOT / "irl" / file)}
    assert known
    for place, text in known.items():
        assert any(row in text for row in rows), f"{place}: no row of checks.md is found in {text!r}"
    for row in rows:
        assert any(row in text for text in known.values()), f"checks.md: no message holds {row!r}"
