"""Speeds of `gpu.py`: training steps, noise and search on a device, beside what the device can do at most.

Alternatives take turns (see `harness.alternate`), and the clock is read when the device has finished. Ratios are of one
round, with the interval of their median.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time
from typing import Any, Callable

import gpu_part
import numpy as np
import torch
from gpu_part import Part, Row
from harness import alternate, median_interval

Steps = dict[str, Callable[[], Any]]


def timed(part: Part, steps: Steps, seconds: float, rounds: int = 40, warmup: int = 3) -> dict[str, np.ndarray]:
    rounds, warmup = (6, 1) if part.tiny else (rounds, warmup)
    return alternate(steps, rounds, warmup, part.name, part.synchronise, min(seconds, max(part.left() - 8, 1)))


def ratio(seconds: dict[str, np.ndarray], name: str, over: str) -> str:
    return str(median_interval(seconds[name] / seconds[over]))


def median(values: np.ndarray) -> float:
    return float(np.median(values))


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_product(part: Part, precision: str) -> float:
    """TFLOP/s of a matrix product that an earlier part of this run measured; NaN if none did."""
    found = [row[precision] for row in gpu_part.rows(part.out) if row["what"] == "matrix products" and precision in row]
    return float(found[-1]) if found else float("nan")


# What the device can do


def peaks(part: Part) -> None:
    part.measure("matrix products", lambda: measure_products(part))
    part.measure("copy", lambda: measure_copy(part))
    part.measure("launches", lambda: measure_launches(part))


def measure_products(part: Part) -> Row:
    """TFLOP/s on random values, which cost more power than zeros."""
    n = 256 if part.tiny else 8192
    found: Row = {"size": n}
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("fp16", torch.float16, False),
        ("tf32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device=part.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        step = lambda a=a, b=b, out=out: torch.mm(a, b, out=out)  # noqa: E731
        found[name] = 2 * n**3 / median(timed(part, {name: step}, 3, rounds=30)[name]) / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def measure_copy(part: Part) -> Row:
    x = torch.empty(2**20 if part.tiny else 2**28, device=part.device).normal_()
    y = torch.empty_like(x)
    spent = median(timed(part, {"copy": lambda: y.copy_(x)}, 2)["copy"])
    return {"GB/s": 2 * x.nbytes / spent / 1e9}


def measure_launches(part: Part) -> Row:
    """What small operations cost, of which the step of a small model consists."""
    x = torch.zeros(1, device=part.device)

    def launch() -> None:
        for _ in range(1000):
            x.add_(1)

    return {"microseconds each": 1e3 * median(timed(part, {"launch": launch}, 2, rounds=20)["launch"])}


# Training steps


def resnet_arguments(part: Part, compiled: bool, cuda_graphs: bool = False) -> argparse.Namespace:
    depth, width = (10, 1) if part.tiny else (28, 10)
    return argparse.Namespace(
        depth=depth, width=width, copies=1, batch_size=16 if part.tiny else 128, device=part.device, threads=1,
        precision="bf16-mixed", compile=compiled, cuda_graphs=cuda_graphs,
    )  # fmt: skip


def resnet_speed(part: Part, args: argparse.Namespace, views: int, spent: float) -> Row:
    from irl.models.wide_resnet import WideResNetConfig, multiply_adds

    # A backward pass costs two forward passes.
    work = 3 * 2 * multiply_adds(WideResNetConfig(args.depth, args.width)) * args.batch_size * views
    speed = work / spent / 1e12
    return {
        "ms": 1e3 * spent, "images/s": args.batch_size / spent, "TFLOP/s": speed,
        "share of the bf16 product": speed / peak_product(part, "bf16"),
    }  # fmt: skip


VIEWS = {"baseline": 1, "irl_batching": 2, "irl_loss": 2, "bare loop": 1}


def wide_resnet(part: Part) -> None:
    import wide_resnet as bench

    args = resnet_arguments(part, compiled=False)
    bench.prepare(part.folder, args)
    steps: Steps = {}

    def build() -> Row:
        steps.update({name: bench.make_step(args, name, part.folder) for name in bench.PRESETS})
        steps["bare loop"] = bench.bare_step(args, part.folder)
        return {}

    part.measure("build", build)
    seconds = timed(part, steps, 20)
    report_resnet(part, args, seconds)
    for flag in ("benchmark", "deterministic"):
        setattr(torch.backends.cudnn, flag, True)
        chosen = timed(part, {name: steps[name] for name in ("baseline", "irl_loss")}, 4)
        setattr(torch.backends.cudnn, flag, False)
        for name, values in chosen.items():
            speed = resnet_speed(part, args, VIEWS[name], median(values))
            part.measure(f"step, {name}, cudnn.{flag}", lambda: speed)
    part.measure("memory", lambda: memory_of(part, steps, "irl_loss", "irl_batching"))
    for name in ("baseline", "irl_loss"):
        part.measure(f"where a step's time goes, {name}", lambda: profile(part, steps[name]))


def report_resnet(part: Part, args: argparse.Namespace, seconds: dict[str, np.ndarray], label: str = "") -> None:
    for name, values in seconds.items():
        part.measure(f"step, {name}{label}", lambda: resnet_speed(part, args, VIEWS[name], median(values)))
    pairs = (("irl_loss", "irl_batching"), ("irl_batching", "baseline"), ("baseline", "bare loop"))
    ratios = {f"{a} / {b}": ratio(seconds, a, b) for a, b in pairs if a in seconds and b in seconds}
    part.measure(f"ratios of time{label}", lambda: ratios)


def compiled(part: Part) -> None:
    """By torch.compile, each row beside the same without; a row is written down as soon as it is known."""
    import wide_resnet as bench

    args, plain = resnet_arguments(part, compiled=True), resnet_arguments(part, compiled=False)
    bench.prepare(part.folder, args)
    steps: Steps = {}

    def first(name: str) -> Row:
        step = bench.make_step(args, name, part.folder)
        begin = time.monotonic()
        step()
        part.synchronise()
        steps[name] = step
        return {"seconds of compiling": time.monotonic() - begin}

    for name in bench.PRESETS:
        part.measure(f"compile, {name}", lambda: first(name))
        if name in steps:
            pair = {name: steps[name], "not compiled": bench.make_step(plain, name, part.folder)}
            seconds = timed(part, pair, 5)
            speed = resnet_speed(part, args, VIEWS[name], median(seconds[name]))
            part.measure(
                f"step, {name}", lambda: {**speed, "time / not compiled": ratio(seconds, name, "not compiled")}
            )
            del pair
            free()
    seconds = timed(part, steps, 6)
    part.measure("ratios of time", lambda: {"irl_loss / irl_batching": ratio(seconds, "irl_loss", "irl_batching")})
    part.measure("memory", lambda: memory_of(part, steps, "irl_loss", "irl_batching"))


def resnet_recorded(part: Part) -> None:
    """With CUDA graphs, as it is and compiled."""
    import wide_resnet as bench

    for compiled in (False, True):
        args = resnet_arguments(part, compiled, cuda_graphs=True)
        bench.prepare(part.folder, args)
        steps: Steps = {}
        label = "recorded, compiled" if compiled else "recorded"
        for name in bench.PRESETS:
            part.measure(
                f"record, {name}, {label}", lambda: record(part, steps, name, bench.make_step(args, name, part.folder))
            )
        report_resnet(part, args, timed(part, steps, 8), f", {label}")
        for name in ("baseline", "irl_loss"):
            if name in steps:
                part.measure(f"where a step's time goes, {name}, {label}", lambda: profile(part, steps[name]))
        steps.clear()
        free()


def record(part: Part, steps: Steps, name: str, step: Callable[[], Any]) -> Row:
    """The first steps, after which passes are played."""
    begin = time.monotonic()
    for _ in range(6):
        step()
    part.synchronise()
    steps[name] = step
    return {"seconds of six steps": time.monotonic() - begin}


def language_recorded(part: Part) -> None:
    import language_model as bench

    portable(part)
    for precision in ("bf16-mixed", "32-true"):
        args = language_arguments(part, precision, cuda_graphs=True)
        bench.prepare(part.folder, args)
        steps: Steps = {}
        for name in bench.PRESETS:
            part.measure(
                f"record, {name}, {precision}",
                lambda: record(part, steps, name, bench.make_step(args, name, part.folder)),
            )
        seconds = timed(part, steps, 6)
        words = args.batch_size * args.bptt
        found: Row = {f"words/s, {name}": words / median(values) for name, values in seconds.items()}
        for over in ("irl_batching", "baseline"):
            found[f"irl_loss / {over}"] = ratio(seconds, "irl_loss", over)
        part.measure(f"2x{args.units} LSTM, {precision}, recorded", lambda: found)
        part.measure(f"where a step's time goes, irl_loss, {precision}", lambda: profile(part, steps["irl_loss"]))
        steps.clear()
        free()


def profile(part: Part, step: Callable[[], Any], rows: int = 10) -> Row:
    """The operations that take most of the device's time, in milliseconds a step, and how long it is at work."""
    from torch.profiler import ProfilerActivity

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if part.cuda else [])]
    begin = time.monotonic()
    with torch.profiler.profile(activities=kinds) as found:
        step()
        part.synchronise()
    wall = time.monotonic() - begin
    time_of = (lambda e: e.self_device_time_total) if part.cuda else (lambda e: e.self_cpu_time_total)  # noqa: E731
    averages = [event for event in found.key_averages() if not event.is_user_annotation]
    device = [e for e in averages if str(e.device_type).endswith("CUDA")] if part.cuda else averages
    top = sorted(device, key=time_of, reverse=True)[:rows]
    milliseconds = {event.key[:60]: time_of(event) / 1e3 for event in top}
    busy = sum(time_of(event) for event in device) / 1e3
    launches = sum(event.count for event in device)
    return {
        "device at work, ms": busy,
        "wall, ms": wall * 1e3,
        "kernels a step": launches,
        "of these": milliseconds,
    }


def portable(part: Part) -> None:
    """oneDNN's LSTM has no bfloat16 on older processors; without it the same code runs on any."""
    if not part.cuda:
        torch.backends.mkldnn.set_flags(False)


def language_model(part: Part) -> None:
    portable(part)
    for precision in ("bf16-mixed", "32-true"):
        part.measure(f"measuring {precision}", lambda: measure_language(part, precision))
        free()


def language_arguments(part: Part, precision: str, cuda_graphs: bool = False) -> argparse.Namespace:
    return argparse.Namespace(
        units=16 if part.tiny else 1500, words=100 if part.tiny else 10000, batch_size=20,
        bptt=5 if part.tiny else 35, device=part.device, precision=precision, threads=1, cuda_graphs=cuda_graphs,
    )  # fmt: skip


def measure_language(part: Part, precision: str) -> None:
    import language_model as bench

    args = language_arguments(part, precision)
    bench.prepare(part.folder, args)
    steps: Steps = {row: bench.make_step(args, row, part.folder) for row in bench.PRESETS}
    steps["plain loop"] = bench.plain_step(args)
    seconds = timed(part, steps, 9)
    words = args.batch_size * args.bptt
    found: Row = {f"words/s, {name}": words / median(values) for name, values in seconds.items()}
    # Two LSTM layers of 8 units^2 products each and the output layer, forward and backward.
    work = 3 * 2 * (16 * args.units**2 + args.units * args.words) * words
    product = peak_product(part, "bf16" if precision == "bf16-mixed" else "float32")
    found["share of the product"] = work / median(seconds["baseline"]) / 1e12 / product
    found["speed of the baseline / plain loop"] = ratio(seconds, "plain loop", "baseline")
    found["irl_loss / irl_batching"] = ratio(seconds, "irl_loss", "irl_batching")
    part.measure(f"2x{args.units} LSTM, {precision}", lambda: found)
    part.measure(f"memory, {precision}", lambda: memory_of(part, steps, "irl_loss", "irl_batching"))
    if precision == "bf16-mixed":
        for name in ("baseline", "irl_loss"):
            part.measure(f"where a step's time goes, {name}", lambda: profile(part, steps[name]))


def memory_of(part: Part, steps: Steps, name: str, over: str) -> Row:
    """Peaks of all in MiB, and the ratio of two."""
    peaks = {f"{key}, MiB": part.peak_mib(step) for key, step in steps.items()}
    return {**peaks, f"{name} / {over}": peaks[f"{name}, MiB"] / peaks[f"{over}, MiB"]}


def encoder_decoder(part: Part) -> None:
    portable(part)
    for label, half in (("float32", None), ("bf16", torch.bfloat16)):
        part.measure(f"measuring {label}", lambda: measure_encoder_decoder(part, label, half))
        free()


def measure_encoder_decoder(part: Part, label: str, half: torch.dtype | None) -> None:
    from irl_step import make_step

    size = (8, 2, 20, 5) if part.tiny else (320, 16, 438, 60)
    steps: Steps = {name: make_step(size, name, part.device, half) for name in ("baseline", "IRL batching", "IRL loss")}
    seconds = timed(part, steps, 12, rounds=30)
    found: Row = {f"steps/s, {name}": 1 / median(values) for name, values in seconds.items()}
    found["IRL loss / IRL batching"] = ratio(seconds, "IRL loss", "IRL batching")
    found["IRL batching / baseline"] = ratio(seconds, "IRL batching", "baseline")
    part.measure(f"{size[0]} units, {size[1]} utterances, {label}", lambda: found)
    part.measure(f"memory, {label}", lambda: memory_of(part, steps, "IRL loss", "IRL batching"))
    # Last, for it takes long to read what so many small operations leave.
    if half is not None and part.left() > 20:
        part.measure("where a step's time goes, IRL loss", lambda: profile(part, steps["IRL loss"]))


# Noise, features and search


def noise_and_search(part: Part) -> None:
    for what, strengths in (
        ("brightness, contrast, lighting", (0.5, 0.5, 0.0, 0.0, 0.1)),
        ("hue, saturation", (0.0, 0.0, 0.5, 0.5, 0.0)),
    ):
        part.measure(f"noise on images: {what}", lambda strengths=strengths: image_noise(part, strengths))
    part.measure("waveforms and features", lambda: sounds(part))
    for device in dict.fromkeys((part.device, "cpu")):
        part.measure(f"search with beam 10 on {device}", lambda device=device: search(part, device))


def image_noise(part: Part, strengths: tuple[float, ...]) -> Row:
    from irl.core.rng import Keys
    from irl.noise.image import ImageNoise, ImageNoiseConfig

    count = 64 if part.tiny else 1024
    x = 255 * torch.rand(count, 3, 32, 32, device=part.device).to(memory_format=torch.channels_last)
    noise = ImageNoise(ImageNoiseConfig(*strengths), 20 * torch.randn(3, 3, device=part.device))
    keys = Keys(torch.arange(count, device=part.device), 1, "noise")
    params = noise.draw(keys, (32, 32))
    steps: Steps = {"both": lambda: noise.apply(x, noise.draw(keys, (32, 32))), "apply": lambda: noise.apply(x, params)}
    seconds = {name: median(values) for name, values in timed(part, steps, 3, rounds=100).items()}
    return {
        "images/s": count / seconds["both"], "images/s without draws": count / seconds["apply"],
        "GB/s of applying": 2 * x.nbytes / seconds["apply"] / 1e9,
    }  # fmt: skip


def sounds(part: Part) -> Row:
    """Of clips of 10 s, times real time. What has no code for a GPU is made on the CPU, one clip after another."""
    from gpu_checks import added, volume

    from irl.data.features import FeatureConfig, LogMel
    from irl.noise.convolution import reverberate, spectrum

    count, length = (2, 16000) if part.tiny else (32, 160000)
    here = 0.1 * torch.randn(count, length)
    lens = torch.full((count,), length)
    there, there_lens = here.to(part.device), lens.to(part.device)
    on_device, on_cpu = LogMel(FeatureConfig()), LogMel(FeatureConfig())
    response = spectrum((torch.randn(8000) * torch.exp(-torch.arange(8000) / 1600)).numpy())
    out = np.empty(length, dtype=np.float32)
    steps: Steps = {
        f"volume on {part.device}": lambda: volume(there, there_lens),
        f"log-mel on {part.device}": lambda: on_device.batch(there, there_lens),
        "log-mel on the cpu": lambda: on_cpu.batch(here, lens),
        "added noise on the cpu": lambda: added(here, lens),
        "reverberation on the cpu": lambda: [reverberate(x, response, out) for x in here.numpy()],
        "copy to the device": lambda: here.to(part.device),
    }
    seconds = timed(part, steps, 8, rounds=20, warmup=2)
    return {f"{name}, x real time": count * length / 16000 / median(values) for name, values in seconds.items()}


def search(part: Part, device: str) -> Row:
    """Random weights: every search goes on to the longest hypothesis allowed, a tenth of the frames."""
    from irl.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
    from irl.speech.beam_search import beam_search
    from irl.speech.search_options import SearchOptions

    torch.manual_seed(0)
    units, count, frames = (8, 2, 20) if part.tiny else (320, 64 if device == "cuda" else 4, 300)
    config = EncoderDecoderConfig(
        encoder_units=units, decoder_units=units, embedding_units=units, attention_units=units
    )
    model = copy.deepcopy(EncoderDecoder(80, 30, config)).to(device).eval()
    x, lens = torch.randn(count, frames, 80, device=device), torch.full((count,), frames, device=device)
    options = SearchOptions(beam=10, ctc_weight=0.3, max_length=0.1)

    @torch.no_grad()
    def run() -> None:
        encoded, _, layers = model.encoder.hidden_states(x, lens)
        beam_search(model.decoder, encoded, layers[-1], model.ctc.log_softmax(encoded), 29, options)

    run()
    spent = []
    end = time.monotonic() + min(6.0, max(part.left() - 5, 0.5))
    while len(spent) < 2 or time.monotonic() < end and len(spent) < 10:
        begin = time.monotonic()
        run()
        part.synchronise()
        spent.append(time.monotonic() - begin)
    each = float(np.median(spent))
    return {
        "utterances/s": count / each, "at once": count, "frames": frames, "tokens": int(0.1 * frames),
        "x real time": count * frames / 100 / each, "threads": torch.get_num_threads() if device == "cpu" else 0,
    }  # fmt: skip
