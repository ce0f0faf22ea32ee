import json
from types import SimpleNamespace

from irl.training.metrics import MetricsWriter


def test_damaged_lines_of_the_log_are_dropped_when_a_run_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "total": 0.1 * step}).encode() for step in (1, 2, 3)]
    path.write_bytes(b"\n".join([lines[0], b"\x00" * 30, b"\xff{}", b"{}", lines[1], lines[2], b'{"step": 4']))
    MetricsWriter(tmp_path, SimpleNamespace(step=2, first=True))._truncate()
    assert path.read_bytes() == b"\n".join([*lines[:2], b""])
