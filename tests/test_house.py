"""The laws of the house that a reader of the code could check by eye, checked by machine."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("data", "noise", "models", "objective")
FILES = sorted((ROOT / "irl").rglob("*.py"))
SHARED = {"errors", "gpu", "kernels", "files", "types", "hashing", "random", "version", "fabric", "processes"}


def imports(path):
    """irl modules imported anywhere in a file, as paths below irl."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return {name.split(".")[1] for name in found if name.startswith("irl.") and name.count(".") >= 1}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    parts = path.relative_to(ROOT / "irl").parts
    entry_points = (
        {p.stem for p in (ROOT / "irl").glob("*.py")} - SHARED - {"__init__", "config", "checkpoint", "command"}
    )
    used = imports(path)
    if len(parts) == 1:
        if parts[0] in {f"{name}.py" for name in SHARED}:
            assert used <= SHARED
        return
    room = parts[0]
    assert not used & entry_points - {room}, "an entry point may not be imported from below"
    if room in ROOMS:
        assert not used & ({*ROOMS, "tasks"} - {room}), f"{room} may not import another room"


def test_import_irl_needs_torch_alone():
    code = """
import sys
import irl
irl.IRLLoss, irl.tap, irl.L2, irl.Cosine, irl.KL, irl.Output
heavy = {"lightning_fabric", "espnet2", "torchaudio", "soundfile", "scipy", "jsonargparse", "yaml", "matplotlib"}
print(sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_light_modules_do_not_wait_for_torch():
    code = """
import sys
import irl, irl.command, irl.data.espeak, irl.data.kaldi, irl.noise.bank, irl.noise.synth
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
        if len(parts) > 1:
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), path


def test_public_functions_have_docstrings():
    import irl

    for name in irl.__all__:
        if not name.startswith("__") and name != "ROWS":
            assert getattr(irl, name).__doc__, name


def test_pins_name_no_poisoned_release():
    pins = (ROOT / "tools" / "constraints.txt").read_text()
    assert "lightning==2.6.6" in pins and "!=2.6.2" in (ROOT / "setup.cfg").read_text()


def test_run_scripts_are_short():
    for path in (ROOT / "egs").glob("*/run.sh"):
        assert len(path.read_text().splitlines()) < 150, path
