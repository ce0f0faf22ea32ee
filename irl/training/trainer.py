"""The training loop of all modalities, in one process or, launched by torchrun or srun, in several.

A run has two phases. "clean": the first train.clean_updates updates, the task loss on clean samples alone, the same for
every method. "paired": the objective of the configuration on clean and noisy views. A run resumes to the bit from
EXP/checkpoint.pt, or begins at the end of another run's clean phase (see `RunState.resume`).
"""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any, Iterable, Iterator

import torch
from torch import Tensor

from irl.core.errors import REQUEUE, Requeue, UserError
from irl.core.logging import logger, resident_mb
from irl.core.machine import set_threads
from irl.core.rng import seed_step
from irl.objective import Terms
from irl.training import distributed
from irl.training.buffers import BufferCopies
from irl.training.config import OPTIMIZERS
from irl.training.cuda_graphs import Values, recorder_for
from irl.training.distributed import Shard
from irl.training.layer_stats import Stat
from irl.training.metrics import MetricsWriter
from irl.training.registry import modality
from irl.training.signals import StopSignals
from irl.training.state import RunState
from irl.training.task import Phase, Task


class Trainer:
    """One run in directory `exp`. Raises UserError for settings that do not fit the processes or the device."""

    def __init__(self, settings: Any, exp: Path) -> None:
        self.config, self.exp = settings, exp
        c = settings.train
        set_threads(c.threads, "train.threads")
        self.fabric = distributed.build(c.accelerator, c.precision)
        self.shard = Shard(self.fabric.global_rank, self.fabric.world_size)
        self._check_batch_size()
        self.task: Task = modality(settings.task, str(exp)).task(settings, self.shard)
        if self.shard.world_size > 1 and self.fabric.device.type == "cuda":
            self.task.module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.task.module)
        kind, options = OPTIMIZERS[c.optimizer]
        trained = [p for p in self.task.module.parameters() if p.requires_grad]
        optimizer = kind(trained, lr=c.learning_rate, weight_decay=c.weight_decay, **options)
        self.raw_module = self.task.module
        self.module, self.optimizer = self.fabric.setup(self.task.module, optimizer)
        self.state = RunState(settings, exp, self.task, self.optimizer, self.fabric)
        self.metrics = MetricsWriter(exp, self.state)
        self.buffers = BufferCopies(self.raw_module)
        self.recorder = recorder_for(settings, self._pass, self.task, self.fabric.device)

    def _check_batch_size(self) -> None:
        size, processes = self.config.train.batch_size, self.shard.world_size
        if size < processes:
            raise UserError(f"train.batch_size {size} is less than the {processes} processes that share it")
        if self.config.objective.pairs == "in_batch" and size < 2 * processes:
            raise UserError(
                f"objective.pairs in_batch compares the samples of one process; train.batch_size {size} leaves "
                f"fewer than two for each of {processes}"
            )

    # The loop

    def run(self, stop: int) -> None:
        """Train until update `stop`, logging, evaluating and saving on the way."""
        c, state, metrics = self.config.train, self.state, self.metrics
        if state.step >= stop:
            logger.info(f"{self.exp}: already at update {state.step}")
            return
        logger.info(f"{self.exp}: from update {state.step} to {stop} of {c.updates}, on {self.fabric.device}")
        self.module.train()
        finite: deque[bool] = deque(maxlen=c.max_bad_steps)
        begin = time.monotonic() - state.seconds
        with metrics.open(stop), StopSignals() as signals:
            for batches in self.batches(stop):
                self._stop_if_signalled(signals)
                finite.append(self.update(batches))
                metrics.advance()
                state.seconds = time.monotonic() - begin
                if not finite[-1]:
                    state.skipped += 1
                    self._stop_if_diverged(finite, batches)

                last = state.step == stop
                if state.step % c.log_every == 0 or last:
                    metrics.log_sums()
                due = self._evaluation_due()
                if due or last:
                    dev = self.evaluate()
                    # A run that merely stops here keeps no weights: an unbroken run would not evaluate here.
                    if c.average and (due or state.step == c.updates) and state.step > c.clean_updates:
                        self._select(self.task.selection_loss(dev))
                if state.step == c.updates and c.average:
                    self._average()
                if state.step % c.save_every == 0 or last:
                    state.save()
        waiting = state.waited / state.seconds
        logger.info(
            f"{self.exp}: update {state.step}, {state.seconds:.0f} s of training, {waiting:.1%} of it waiting for "
            f"data; {resident_mb():.0f} MB; {state.skipped} updates skipped; {state.path}"
        )

    def batches(self, stop: int) -> Iterator[list[Any]]:
        """The batches of one update at a time until `stop`. An epoch's last batches, too few for one, are skipped."""
        c, state = self.config.train, self.state
        while state.step < stop:
            count = self.task.batches_of(state.epoch)
            updates = min((count - state.batch) // c.accumulate, stop - state.step)
            specs = [
                self.task.spec(state.batch + i, state.phase_at(state.step + i // c.accumulate)[0])
                for i in range(updates * c.accumulate)
            ]
            group: list[Any] = []
            for batch in self._timed(self.task.loader(state.epoch, specs, c.workers)):
                group.append(batch)
                if len(group) == c.accumulate:
                    yield group
                    group = []
            if state.step < stop:
                state.epoch, state.batch = state.epoch + 1, 0

    def _timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches; the seconds that the loop waits for each are added to `waited`."""
        iterator = iter(batches)
        while True:
            begin = time.monotonic()
            batch = next(iterator, None)
            self.state.waited += time.monotonic() - begin
            if batch is None:
                return
            yield batch

    # One update

    def update(self, batches: list[Any]) -> bool:
        """One optimizer step on `batches`, whose gradients are averaged. False if the loss or the gradient was not
        finite; then weights, running statistics and hidden state stay as they were."""
        c, state = self.config.train, self.state
        seed_step(self.config.seed, state.step, self.shard.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = state.lr_at(state.step)
        # The forward pass changes buffers (running statistics of batch norm) and the hidden state.
        self.buffers.keep()
        hidden = self.task.hidden_state()
        if self.recorder is not None:
            # The recorder overwrites it.
            hidden = {name: x.clone() for name, x in hidden.items()}
        terms = self._backward(batches)
        norm = self.fabric.clip_gradients(
            self.module, self.optimizer, max_norm=c.clip_norm or math.inf, error_if_nonfinite=False
        )
        assert norm is not None
        stats, finite = _sums(batches, terms, norm)
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if finite or scaler is not None and not math.isfinite(stats["gradient_norm"].total):
            # In float16 the loss scaler leaves the weights alone where a gradient is not finite, and lowers the scale.
            self.optimizer.step()
        elif scaler is not None:
            scaler.update()
        if finite:
            state.add(stats)
        else:
            self.buffers.restore()
            self.task.load_state(hidden)
        self.optimizer.zero_grad()
        state.step += 1
        state.batch += len(batches)
        return finite

    def _backward(self, batches: list[Any]) -> list[Values]:
        """Accumulate the gradients of the batches; return the values of the terms of each, still on the device."""
        values = []
        for i, batch in enumerate(batches, 1):
            batch = self.fabric.to_device(batch)
            if self.recorder is not None:
                values.append(self.recorder(batch, self._stage()))
            else:
                values.append(self._pass(batch, len(batches), i == len(batches)))
        return values

    def _pass(self, batch: Any, batches: int = 1, last: bool = True) -> Values:
        """The forward and backward pass of one of the batches of an update; the values of its terms."""
        phase, step = self.state.phase_at(self.state.step)
        # Processes exchange gradients once, in the backward pass of the last batch.
        with self.fabric.no_backward_sync(self.module, enabled=not last):
            terms: Terms = self.module(batch, phase, step)
            # DDP averages over processes, and each process has its part of the sum.
            self.fabric.backward(terms.total / (batches / self.shard.world_size))
        return _values(terms)

    def _stage(self) -> tuple[Phase, float] | None:
        """A pass depends on these beside its batch: the phase and gamma. None while gamma rises."""
        phase, step = self.state.phase_at(self.state.step)
        objective = self.raw_module.objectives[phase]
        return None if step < objective.warmup else (phase, objective.gamma_at(step))

    # Stopping

    def _stop_if_signalled(self, signals: StopSignals) -> None:
        """Save and end all processes if any of them got a signal."""
        signum = signals.in_any_process()
        if not signum:
            return
        self.state.save()
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.state.first:
            raise SystemExit(REQUEUE)
        raise Requeue(f"{self.exp}: {signal.Signals(signum).name} at update {self.state.step}, saved")

    def _stop_if_diverged(self, finite: deque[bool], batches: list[Any]) -> None:
        """Keep the batches and raise UserError where the last train.max_bad_steps updates were all skipped."""
        if len(finite) < self.config.train.max_bad_steps or any(finite):
            return
        name = f"bad_batch.{self.shard.rank}.pt" if self.shard.world_size > 1 else "bad_batch.pt"
        torch.save(batches, self.exp / name)
        raise UserError(
            f"{self.exp}: loss or gradient not finite in {len(finite)} updates in a row; "
            f"the last batch is in {self.exp / name}"
        )

    # Evaluating

    def _evaluation_due(self) -> bool:
        c, state = self.config.train, self.state
        if c.eval_every < 0:
            return state.batch + c.accumulate > self.task.batches_in(state.epoch)
        return bool(c.eval_every > 0 and state.step % c.eval_every == 0)

    def evaluate(self, what: str = "") -> dict[str, Stat]:
        """Sums on the dev set, logged as dev/NAME. what: names the weights in the log, if not the last ones."""
        # On CPUs batch norm has statistics of each process's own shard; the first process's are saved and used.
        distributed.broadcast_tensors(self.raw_module.buffers())
        stats = self.task.evaluate()
        dev = {f"dev/{name}": stat.mean for name, stat in stats.items()}
        self.metrics.log(dev)
        headline = " ".join(f"{name} {value:.4g}" for name, value in dev.items() if name.startswith(HEADLINES))
        logger.info(f"update {self.state.step}: {what}{headline}")
        return stats

    def _select(self, loss: float) -> None:
        """Keep the weights if they are among the best. Decay "plateau": if they are not the best, return to the best
        ones and reduce the learning rate."""
        state = self.state
        loss = loss if math.isfinite(loss) else math.inf
        before = state.best.losses
        state.best.offer(state.step, loss, self.raw_module.state_dict())
        if self.config.train.decay == "plateau" and before and loss >= min(before.values()):
            state.lr_scale *= self.config.train.decay_factor
            best = min(before, key=lambda step: before[step])
            self.raw_module.load_state_dict(state.from_first(lambda: state.best.weights(best)))

    def _average(self) -> None:
        """Evaluate the mean of the best weights, and keep it beside the last ones, which resuming needs."""
        state = self.state
        state.averaged = state.from_first(state.best.mean)
        last = {name: value.clone() for name, value in self.raw_module.state_dict().items()}
        self.raw_module.load_state_dict(state.averaged)
        self.evaluate(f"mean of updates {', '.join(map(str, state.best.losses))}: ")
        self.raw_module.load_state_dict(last)


HEADLINES = ("dev/loss", "dev/cer", "dev/error")  # shown on the screen; metrics.jsonl has all


def _values(terms: Terms) -> Values:
    """The terms of the global batch: the sum of the parts that the processes have."""
    values = {"total": terms.total, "clean": terms.clean, "noisy": terms.noisy, "dist": terms.dist}
    values.update({f"dist/{layer}": value for layer, value in terms.per_layer.items()})
    values.update(terms.extra)
    parts = [value.detach() for value in values.values()]
    if len({part.dtype for part in parts}) > 1:
        parts = [part.double() for part in parts]
    return list(values), distributed.all_reduce_sum(torch.stack(parts).double())


def _sums(batches: list[Any], terms: list[Values], norm: Tensor) -> tuple[dict[str, Stat], bool]:
    """Sums of the terms of the batches and of the gradient's norm by name, and whether the losses and the norm are all
    finite. Everything is read from the device at once, because each reading waits for the device."""
    *numbers, size = torch.cat([*(values for _, values in terms), norm.double()[None]]).tolist()
    stats: dict[str, Stat] = {}
    finite = math.isfinite(size)
    for batch, (names, _) in zip(batches, terms):
        values, numbers = dict(zip(names, numbers)), numbers[len(names) :]
        finite = finite and math.isfinite(values["total"])
        rows = batch.totals.global_batch_size
        for name, value in values.items():
            stats[name] = stats.get(name, Stat(0, 0)) + Stat(rows * value, rows)
    return {**stats, "gradient_norm": Stat(size, 1)}, finite
