"""The laws of the house that a reader of the code could check by eye, checked by machine."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "irl").rglob("*.py"))
# The six floors of the house, from the ground up: a file may import from its own floor and from those below.
FLOORS = [
    {"core"},
    {"objective", "models", "data"},
    {"training", "noise"},
    {"reporting", "integrations"},
    {"speech", "vision", "language"},
    {"bin"},
]
MODALITIES = FLOORS[4]


def floor(room):
    assert any(room in rooms for rooms in FLOORS), f"irl/{room} is on no floor: add it to FLOORS"
    return next(number for number, rooms in enumerate(FLOORS, 1) if room in rooms)


def imported(path, at_once=False):
    """Modules of irl that a file imports, anywhere in it, or at once when it is imported itself."""
    names, tree = set(), ast.parse(path.read_text())
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("irl.")}


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name != "irl"], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = path.relative_to(ROOT / "irl").parts[0]
    for name in imported(path):
        room = name.split(".")[1]
        if room.startswith("_") or name.count(".") == 1 and not (ROOT / "irl" / room).is_dir():
            continue
        assert floor(room) <= floor(own), f"{name} lies on a floor above"
        assert room == own or not {room, own} <= MODALITIES, f"{own} may not know of {room}"


def test_no_import_circle():
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}
    arrows = {
        name: {m for m in imported(path, at_once=True) if m in modules and m != name} for name, path in modules.items()
    }
    done = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in arrows[name]:
                visit(other, [*trail, name])
            done.add(name)

    for name in modules:
        visit(name, [])


def test_import_irl_needs_torch_alone():
    code = """
import sys
import irl
irl.IRLLoss, irl.tap, irl.L2, irl.Cosine, irl.KL, irl.Output
heavy = {"lightning_fabric", "espnet2", "torchaudio", "soundfile", "scipy", "yaml", "matplotlib"}
print(sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_light_modules_do_not_wait_for_torch():
    code = """
import sys
import irl, irl.core.logging, irl.data.audio, irl.data.kaldi, irl.noise.bank, irl.noise.synth
print("torch" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "False"


def test_the_model_works_without_espnet():
    code = """
import sys
sys.modules["espnet2"] = sys.modules["espnet"] = None
from irl.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
EncoderDecoder(3, 5, EncoderDecoderConfig(encoder_units=2, decoder_units=2))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_print_in_library_rooms():
    for path in FILES:
        parts = path.relative_to(ROOT / "irl").parts
        if parts[0] not in ("bin", "__init__.py"):
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), path


def test_public_functions_have_docstrings():
    import irl

    for name in irl.__all__:
        if not name.startswith("__") and name != "PRESETS":
            assert getattr(irl, name).__doc__, name


def test_pins_name_no_poisoned_release():
    pins = (ROOT / "tools" / "constraints.txt").read_text()
    assert "lightning==2.6.6" in pins and "!=2.6.2" in (ROOT / "setup.cfg").read_text()


# The registry lists the modalities. These commands are for one of them alone.
NAMES_A_MODALITY = {
    "training/registry.py",
    *(f"bin/{n}.py" for n in "corrupt make_bank score_text spectrograms transcribe tune".split()),
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_modalities_know_themselves(path):
    """What differs is asked of the object `modality`: no import of one, no comparison with its name elsewhere."""
    own = str(path.relative_to(ROOT / "irl"))
    if own.split("/")[0] in MODALITIES or own in NAMES_A_MODALITY:
        return
    assert not {name for name in imported(path) if name.split(".")[1] in MODALITIES}
    # In noise/ "speech" is a category of MUSAN, in integrations/ an input of ESPnet's models.
    constants = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
    named = MODALITIES & {value for value in constants if isinstance(value, str)}
    assert own.startswith(("noise/", "integrations/")) or not named


def test_files_and_functions_are_short():
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


# Distributions whose module has another name.
MODULES = {
    "lightning-fabric": "lightning_fabric",
    "PyYAML": "yaml",
    "espeakng-loader": "espeakng_loader",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "tensorboard": "torch.utils.tensorboard",
}
TOOLS = ("dev", "bench", "docs", "all")


def extras():
    """Names of distributions by extra, without version bounds and without extras of our own."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    found = {}
    for extra, text in config["options.extras_require"].items():
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        found[extra] = [re.split(r"[\s<>=!,\[]", line)[0] for line in lines if not line.startswith("irl[")]
    return found


def test_every_dependency_is_imported():
    """What tests and benchmarks alone import belongs to their own extras."""
    modules = set()
    for path in [*FILES, *(ROOT / "egs").rglob("*.py"), *(ROOT / "tools/docs/examples").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module)
    for extra, names in extras().items():
        for name in () if extra in TOOLS else names:
            module = MODULES.get(name, name)
            assert any(m == module or m.startswith(module + ".") for m in modules), f"{extra}: nothing imports {name}"


def test_every_dependency_is_pinned():
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "tools" / "constraints.txt").read_text(), flags=re.M)
    for extra, names in extras().items():
        assert {name.lower() for name in names} <= set(pins), extra


def test_run_scripts_are_short():
    for path in (ROOT / "egs").glob("*/run.sh"):
        assert len(path.read_text().splitlines()) < 120, path
