"""Train: python -m irl.train CONFIG.yaml --exp DIR [key=value ...]

One loop for all tasks, in one process or, begun by torchrun or srun, in several. It resumes exactly from
DIR/checkpoint.pt if there is one. `--start CHECKPOINT` begins instead from the end of another run's clean phase, which
is the same for every method, and gives the same weights to the bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Iterable, Iterator

import torch

from irl import checkpoint, command, config, cuda_graphs, files, processes
from irl.averaging import BestWeights
from irl.cuda_graphs import Recorder
from irl.errors import UserError
from irl.experiment import read_config, saved_config, task_classes
from irl.objective import IRLLoss, Terms
from irl.processes import Part
from irl.random import seed_step
from irl.tasks.base import OPTIMIZERS, Plan, Stat, Task, lasting


class Trainer:
    """The state of one run: step counts updates done, batch counts batches consumed in this epoch."""

    def __init__(self, settings: Any, exp: Path) -> None:
        from irl.fabric import build

        self.config, self.exp = settings, exp
        # Of the code that runs, which may not be what lies there when the run ends.
        self.commit = command.commit()
        self.path = exp / "checkpoint.pt"
        c = settings.train
        if c.threads:
            torch.set_num_threads(c.threads)
        self.fabric = build(c.accelerator, c.precision)
        self.part = Part(self.fabric.global_rank, self.fabric.world_size)
        # One process writes and reports.
        self.first = self.part.rank == 0
        if c.batch_size < self.part.of:
            raise UserError(f"train.batch_size {c.batch_size} is less than the {self.part.of} processes that share it")
        self.task: Task = task_classes(settings.task, str(exp))[1](settings, self.part)
        if self.part.of > 1 and self.fabric.device.type == "cuda":
            self.task.module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.task.module)
        kind, options = OPTIMIZERS[c.optimizer]
        optimizer = kind(self.task.module.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay, **options)
        self.raw_module = self.task.module
        self.module, self.optimizer = self.fabric.setup(self.task.module, optimizer)
        self.objective = settings.objective.build()
        self.recorder: Recorder | None = None
        if c.cuda_graphs and cuda_graphs.usable(self.fabric.device):
            if not self.task.recordable or self.part.of > 1:
                raise UserError(
                    "train.cuda_graphs is for one process, and for images without attacks and smoothness or text"
                )
            self.recorder = Recorder(self._pass, self.task)
        self._ahead: _Ahead | None = None
        self._kept: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
        if self.objective.pairs == "others" and c.batch_size < 2 * self.part.of:
            raise UserError(
                f"objective.pairs others compares the samples of one process; train.batch_size {c.batch_size} leaves "
                f"fewer than two for each of {self.part.of}"
            )
        self.epoch = self.batch = self.step = 0
        self.skipped = 0
        self._stopped: signal.Signals | None = None
        self.averaged: dict[str, torch.Tensor] | None = None
        self.best = BestWeights(exp / "best", c.average, self.first)
        # By what evaluations that were no better have slowed the rate (decay "plateau").
        self.slowed = 1.0
        # Seconds of training, and those of them that were spent waiting for batches.
        self.seconds = self.waited = 0.0
        # What each layer contributes is in metrics.jsonl; sums since the last log line.
        self.stats: dict[str, Stat] = {}

    # Resuming

    def state(self) -> dict[str, Any]:
        return {
            "model": self.raw_module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            # Of the loss scaler of 16-mixed; empty for the others.
            "precision": self.fabric.strategy.precision.state_dict(),
            "config": config.to_dict(self.config),
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "waited": self.waited,
            "best": self.best.losses,
            "slowed": self.slowed,
            "carried": self.task.gather(self.task.carried()),
            **({"averaged": self.averaged} if self.averaged else {}),
            "stats": {name: [stat.total, stat.count] for name, stat in self.stats.items()},
            "commit": self.commit,
            "versions": command.versions(),
            **self.task.extra_state(),
        }

    def save(self) -> None:
        state = self.state()
        if self.first:
            checkpoint.save(self.path, state)
            self.best.prune()
        # Nobody ends before it is written.
        processes.wait()

    def load(self, path: Path, state: dict[str, Any], start: bool = False) -> None:
        """Take up the run of a checkpoint. start: it is the end of a clean phase, whose objective and noise may be
        another's."""
        if state["config"].get("task") != self.config.task or "optimizer" not in state:
            raise UserError(f"{path}: not a checkpoint of a training run of task {self.config.task}")
        there, here = (lasting(config.to_dict(c)) for c in (saved_config(state, path), self.config))
        ignored = {"objective", "noise", "attack", "unlabelled", "smoothness"} if start else set()
        for key, old, new in _differences(there, here):
            if key.split(".")[0] not in ignored:
                raise UserError(
                    f"{path}: was trained with {key} {json.dumps(old)}, this run has {json.dumps(new)}; "
                    "use another --exp (or remove that directory), or the same configuration"
                )
        if start and state["step"] != self.config.train.clean_updates:
            raise UserError(
                f"{path}: is at update {state['step']}, but the clean phase of this run ends at "
                f"{self.config.train.clean_updates}"
            )
        for key, value in self.task.extra_state().items():
            if state.get(key) != value:
                raise UserError(f"{path}: was trained with other {key} than there are now; use another --exp")
        weights = state["model"]
        if start:
            # What a step holds beside the model belongs to terms that a clean phase has not.
            own = self.raw_module.state_dict()
            weights = {name: value for name, value in weights.items() if name.startswith("model.")}
            weights.update({name: value for name, value in own.items() if not name.startswith("model.")})
        checkpoint.load_weights(self.raw_module, weights, path)
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state.get("precision", {}))
        for name in ("epoch", "batch", "step", "skipped", "seconds"):
            setattr(self, name, state[name])
        self.best.resume(state.get("best", {}))
        self.waited, self.averaged, self.slowed = (
            state.get("waited", 0.0),
            state.get("averaged"),
            state.get("slowed", 1.0),
        )
        self.task.carry(self.task.own(state.get("carried", {})))
        self.stats = {name: Stat(*stat) for name, stat in state["stats"].items()}

    def _truncate_metrics(self) -> None:
        """Drop lines of updates that the checkpoint does not know, which will be made again, and a half-written one."""
        path = self.exp / "metrics.jsonl"
        if self.first and path.exists():
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            kept = [line for line in whole if json.loads(line)["step"] <= self.step]
            files.write(path, "".join(kept))

    # One update

    def _objective_at(self, step: int) -> IRLLoss:
        return self.objective.clean_only() if step < self.config.train.clean_updates else self.objective

    def _plans(self, first: int) -> list[Plan]:
        """What is left of this epoch from batch `first` on, each batch with what its update looks at."""
        c = self.config.train
        plans = []
        for index in range(first, self.task.batches_in(self.epoch)):
            objective = self._objective_at(self.step + (index - first) // c.accumulate)
            plans.append(Plan(index, objective.needs_clean, self.task.copies(objective)))
        return plans

    def groups(self, stop: int) -> Iterator[list[Any]]:
        """Batches of one update at a time until `stop`; an epoch's remainder that fills no update is left out."""
        c = self.config.train
        while self.step < stop:
            plans = self._plans(self.batch)
            plans = plans[: (stop - self.step) * c.accumulate]
            usable = len(plans) - len(plans) % c.accumulate
            if self.batch == 0 and usable == 0 and self.task.batches_in(self.epoch) < c.accumulate:
                raise UserError(
                    f"accumulate {c.accumulate} exceeds the {self.task.batches_in(self.epoch)} batches there are"
                )
            group: list[Any] = []
            self._ahead = _Ahead(self._timed(self.task.loader(self.epoch, plans[:usable], c.workers)))
            for batch in self._ahead:
                group.append(batch)
                if len(group) == c.accumulate:
                    yield group
                    group = []
            if self.step < stop:
                self.epoch, self.batch = self.epoch + 1, 0

    def _timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches; the time that the loop waits for each is added up."""
        iterator = iter(batches)
        while True:
            begin = time.monotonic()
            batch = next(iterator, None)
            self.waited += time.monotonic() - begin
            if batch is None:
                return
            yield batch

    def rate_at(self, step: int) -> float:
        return self.config.train.rate_at(step) * self.slowed

    def update(self, batches: list[Any]) -> bool:
        """One optimiser step. False if loss or gradient was not finite; then the weights are left as they are."""
        c = self.config.train
        seed_step(self.config.seed, self.step, self.part.rank)
        rate = self.rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.raw_module.objective = self._objective_at(self.step)
        parts = []
        # What a forward pass changes by itself: running statistics of batch norm, states that are carried.
        self._keep_buffers()
        carried = self.task.carried()
        if self.recorder is not None:
            carried = {name: x.clone() for name, x in carried.items()}
        for i, batch in enumerate(batches, 1):
            batch = self.fabric.to_device(batch)
            if self.recorder is not None:
                parts.append(self.recorder(batch, self._phase()))
            else:
                parts.append(self._pass(batch, len(batches), i == len(batches)))
        norm = self.fabric.clip_gradients(
            self.module, self.optimizer, max_norm=c.clip_norm or math.inf, error_if_nonfinite=False
        )
        assert norm is not None
        if self._ahead is not None and self.fabric.device.type == "cuda":
            self._ahead.fetch()
        # Read all at once: for that a GPU has to finish.
        *numbers, size = torch.cat([*(values for _, values in parts), norm.double()[None]]).tolist()
        found: dict[str, Stat] = {}
        finite = math.isfinite(size)
        for batch, (names, _) in zip(batches, parts):
            values = dict(zip(names, numbers))
            numbers = numbers[len(names) :]
            finite = finite and math.isfinite(values["total"])
            for name, value in values.items():
                found[name] = found.get(name, Stat(0, 0)) + Stat(batch.whole.rows * value, batch.whole.rows)
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if finite or scaler is not None and not math.isfinite(size):
            # In float16 the loss scaler leaves the weights alone where a gradient is not finite, and lowers the scale.
            self.optimizer.step()
        elif scaler is not None:
            scaler.update()
        if finite:
            for name, stat in {**found, "gradient_norm": Stat(size, 1)}.items():
                self.stats[name] = self.stats.get(name, Stat(0, 0)) + stat
        else:
            for buffers, kept in self._kept:
                torch._foreach_copy_(buffers, kept)
            self.task.carry(carried)
        self.optimizer.zero_grad()
        self.step += 1
        self.batch += len(batches)
        return finite

    def _pass(self, batch: Any, batches: int = 1, last: bool = True) -> tuple[list[str], torch.Tensor]:
        """Forward and backward pass of one of the batches of an update: names and values of its terms."""
        # Gradients are exchanged once, with those of the last batch.
        with self.fabric.no_backward_sync(self.module, enabled=not last):
            terms: Terms = self.module(batch, self.step - self.config.train.clean_updates)
            # What is exchanged is the mean over processes, each of which has its part of the sum.
            self.fabric.backward(terms.total / (batches / self.part.of))
        return _values(terms)

    def _phase(self) -> tuple[bool, float] | None:
        """What a pass depends on beside its batch: whether it is of the clean phase, and gamma; None while it rises."""
        step = self.step - self.config.train.clean_updates
        if step < 0:
            return True, 0.0
        return None if step < self.objective.warmup else (False, self.objective.gamma_at(step))

    def _keep_buffers(self) -> None:
        """Copies all buffers, those of one type at once, for an update that has to be undone."""
        if not self._kept:
            by_type: dict[torch.dtype, list[torch.Tensor]] = {}
            for buffer in self.raw_module.buffers():
                by_type.setdefault(buffer.dtype, []).append(buffer)
            self._kept = [(same, [torch.empty_like(x) for x in same]) for same in by_type.values()]
        with torch.no_grad():
            for same, kept in self._kept:
                torch._foreach_copy_(kept, same)

    # The loop

    def run(self, stop: int) -> None:
        """Train until update `stop`, saving, logging and evaluating on the way."""
        c = self.config.train
        log = command.logger
        if self.step >= stop:
            log.info(f"{self.exp}: already at update {self.step}")
            return
        self._truncate_metrics()
        log.info(f"{self.exp}: from update {self.step} to {stop} of {c.updates}, on {self.fabric.device}")
        self.module.train()
        bad: deque[bool] = deque(maxlen=c.max_bad_steps)
        begin = time.monotonic() - self.seconds
        bar = command.progress(
            None, self.exp.name, total=stop, initial=self.step, unit="update", disable=not self.first
        )
        with self._board() as board, bar, self._finishing_steps():
            for batches in self.groups(stop):
                # A signal may come to one process alone, or to each at another update.
                stopped = processes.highest(self._stopped or 0)
                if stopped:
                    self.save()
                    if stopped == signal.SIGINT:
                        raise KeyboardInterrupt
                    if not self.first:
                        raise SystemExit(command.REQUEUE)
                    raise command.Requeue(f"{self.exp}: {signal.Signals(stopped).name} at update {self.step}, saved")
                good = self.update(batches)
                bar.update()
                self.seconds = time.monotonic() - begin
                bad.append(not good)
                if not good:
                    self.skipped += 1
                    if len(bad) == c.max_bad_steps and all(bad):
                        broken = self.exp / (f"bad_batch.{self.part.rank}.pt" if self.part.of > 1 else "bad_batch.pt")
                        torch.save(batches, broken)
                        raise UserError(
                            f"{self.exp}: loss or gradient not finite in {len(bad)} updates in a row; "
                            f"the last batch is in {broken}"
                        )
                last = self.step == stop
                if self.step % c.log_every == 0 or last:
                    resources = {"memory_mb": command.resident_mb(), "waited": self.waited / self.seconds}
                    self._log(board, bar, {**{name: stat.mean for name, stat in self.stats.items()}, **resources})
                    self.stats = {}
                due = self._evaluation_due()
                if due or last:
                    dev = self._evaluate(board, bar)
                    # Not where a run merely stops: one that did not stop has no weights from there.
                    if c.average and (due or self.step == c.updates) and self.step > c.clean_updates:
                        self._select(self.task.selection_loss(dev))
                if self.step == c.updates and c.average:
                    self._average(board, bar)
                if self.step % c.save_every == 0 or last:
                    self.save()
        waiting = self.waited / self.seconds
        log.info(
            f"{self.exp}: update {self.step}, {self.seconds:.0f} s of training, {waiting:.1%} of it waiting for data; "
            f"{command.resident_mb():.0f} MB; {self.skipped} updates skipped; {self.path}"
        )

    def _evaluate(self, board: Any, bar: Any, what: str = "") -> dict[str, Stat]:
        # Batch norm's statistics on CPUs are of each process's own part; the first's are those that are saved.
        processes.share_first(self.raw_module.buffers())
        stats = self.task.evaluate()
        dev = {f"dev/{name}": stat.mean for name, stat in stats.items()}
        self._log(board, bar, dev)
        headline = " ".join(f"{name} {value:.4g}" for name, value in dev.items() if _headline(name))
        command.logger.info(f"update {self.step}: {what}{headline}")
        return stats

    def _evaluation_due(self) -> bool:
        c = self.config.train
        if c.eval_every < 0:
            return self.batch + c.accumulate > self.task.batches_in(self.epoch)
        return c.eval_every > 0 and self.step % c.eval_every == 0

    def _select(self, loss: float) -> None:
        """Keep the weights if they are among the best; where they are not the best and that slows training, go back."""
        loss = loss if math.isfinite(loss) else math.inf
        before = self.best.losses
        self.best.offer(self.step, loss, self.raw_module.state_dict())
        if self.config.train.decay == "plateau" and before and loss >= min(before.values()):
            self.slowed *= self.config.train.decay_factor
            best = min(before, key=lambda step: before[step])
            self.raw_module.load_state_dict(processes.from_first(lambda: self.best.weights(best)))

    def _average(self, board: Any, bar: Any) -> None:
        """The mean of the best weights beside the last ones, which resuming needs; `irl.decode` takes the mean."""
        self.averaged = processes.from_first(self.best.mean)
        last = {name: value.clone() for name, value in self.raw_module.state_dict().items()}
        self.raw_module.load_state_dict(self.averaged)
        self._evaluate(board, bar, f"mean of updates {', '.join(map(str, self.best.losses))}: ")
        self.raw_module.load_state_dict(last)

    @contextlib.contextmanager
    def _board(self) -> Iterator[Any]:
        """TensorBoard's, of the first process."""
        if not self.first:
            yield None
            return
        from torch.utils.tensorboard import SummaryWriter

        # A thread writes. What ends it is raised here too, at the next value or at the end, and needs no traceback.
        hook = threading.excepthook
        threading.excepthook = lambda args: None if issubclass(args.exc_type, OSError) else hook(args)
        try:
            with self._writing_board():
                board = SummaryWriter(str(self.exp / "tensorboard"), purge_step=self.step)
            yield board
            with self._writing_board():
                board.close()
        finally:
            threading.excepthook = hook

    @contextlib.contextmanager
    def _writing_board(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.exp / 'tensorboard'}: cannot be written: {error.strerror}") from None

    @contextlib.contextmanager
    def _finishing_steps(self) -> Iterator[None]:
        """Meanwhile Ctrl-C, SIGTERM and SIGUSR1, which Slurm sends before it ends a job, let a step finish before the
        run stops, so that what is saved is exact."""

        def stop(signum: int, frame: Any) -> None:
            self._stopped = signal.Signals(signum)

        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        before = {signum: signal.signal(signum, stop) for signum in signals}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _log(self, board: Any, bar: Any, values: dict[str, float]) -> None:
        if not self.first:
            return
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        line = {"step": self.step, "epoch": self.epoch, "rate": self.rate_at(self.step - 1)}
        files.append(self.exp / "metrics.jsonl", json.dumps({**line, **values, "seconds": round(self.seconds, 2)}))
        with self._writing_board():
            for name, value in values.items():
                board.add_scalar(name, value, self.step)
        if "total" in values:
            bar.set_postfix(loss=f"{values['total']:.3f}", skipped=self.skipped, refresh=False)


class _Ahead:
    """The same batches, of which the next can be fetched ahead: while a GPU is busy with the one before."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches
        self.fetched: list[Any] = []

    def fetch(self) -> None:
        if not self.fetched:
            self.fetched.append(next(self.batches, None))

    def __iter__(self) -> Iterator[Any]:
        while True:
            self.fetch()
            batch = self.fetched.pop()
            if batch is None:
                return
            yield batch


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old, new) wherever two configurations differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    elif old != new:
        yield prefix, old, new


def _headline(name: str) -> bool:
    return name.startswith(("dev/loss", "dev/cer", "dev/error"))


def _values(terms: Terms) -> tuple[list[str], torch.Tensor]:
    """Names and values of the terms of the batch of all processes: each process has its part of each, see
    `irl.processes`."""
    values = {"total": terms.total, "clean": terms.clean, "noisy": terms.noisy, "dist": terms.dist}
    values.update({f"dist/{layer}": value for layer, value in terms.per_layer.items()})
    values.update(terms.extra)
    parts = [value.detach() for value in values.values()]
    if len({part.dtype for part in parts}) > 1:
        parts = [part.double() for part in parts]
    return list(values), processes.total(torch.stack(parts).double())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.train", description="Train a model.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--exp", type=Path, required=True, help="directory of this run: checkpoint, metrics, logs")
    parser.add_argument("--start", type=Path, help="checkpoint at the end of a clean phase to begin from")
    parser.add_argument("--stop", help="stop after this update, or `clean`: at the end of the clean phase")
    args = parser.parse_intermixed_args()
    if args.stop is not None and args.stop != "clean" and not args.stop.isdigit():
        parser.error(f"--stop: expected a number of updates or `clean`, got {args.stop!r}")
    settings = read_config(args.config, args.overrides)
    last = settings.train.updates
    stop = settings.train.clean_updates if args.stop == "clean" else int(args.stop or last)
    with processes.together():
        trainer = Trainer(settings, args.exp)
        if trainer.first:
            command.log_to(args.exp / "train.log")
        state = processes.from_first(lambda: checkpoint.load_last(trainer.path))
        if state is not None:
            trainer.load(trainer.path, state)
        elif args.start is not None and settings.train.clean_updates:
            trainer.load(args.start, processes.from_first(lambda: checkpoint.load(args.start)), start=True)
        if trainer.first:
            files.write(args.exp / "config.json", json.dumps(config.to_dict(settings), indent=1) + "\n")
        trainer.run(min(stop, last))


if __name__ == "__main__":
    command.run_command(main)
