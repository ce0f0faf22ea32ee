"""IRL in Lightning's Trainer, by a callback; the LightningModule stays as it is.

    from lightning.pytorch import Trainer
    from irl.integrations.lightning import IRLCallback
    from irl.noise import image_noise, paired

    pairs = paired(dataset, image_noise(brightness=0.3, contrast=0.3, scale=1.0))
    loader = DataLoader(pairs, batch_size=64, shuffle=True, collate_fn=pairs.collate)
    Trainer(callbacks=[IRLCallback(["encoder"], IRLLoss(gamma=0.5))]).fit(module, loader)

Or, where inputs have no padding, without pairs in the loader: IRLCallback(["encoder"], noise=image_noise(...)).
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from irl.integrations.steps import IRLSteps, scalars


class IRLCallback(Callback):
    """Runs the module's own training_step once for each view, with the same draws of dropout, and returns the IRL loss.

    Arguments as of `irl.integrations.steps.IRLSteps`: layers, irl_loss, noise, lens(batch, output), ... A batch is
    (clean, [noisy, ...]), or what the module takes if a noise is given. The terms are logged as irl/total, irl/gamma,
    irl/clean, irl/noisy, irl/dist and irl/dist/LAYER; what training_step logs of noisy views is logged as noisy/NAME.
    A metric object that training_step updates counts every view. Pairs of
    `irl.noise.paired` are told the epoch. Validation is the module's own. Any strategy that runs training_step within
    the module's forward, DDP among them, and any precision. Raises ValueError for manual optimization, and for a
    training_step that returns no loss.
    """

    def __init__(self, layers: Any, irl_loss: Any = None, **settings: Any) -> None:
        self.steps = IRLSteps(layers, irl_loss, **settings)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if not module.automatic_optimization:
            raise ValueError("IRLCallback: with manual optimization call IRLLoss in your own training_step")
        own, own_log = module.training_step, module.log

        def training_step(batch: Any, *args: Any, **kwargs: Any) -> Any:
            ran = 0 if self.steps.irl_loss.needs_clean else 1

            def view(batch: Any) -> Any:
                nonlocal ran
                prefix, ran = "noisy/" if ran else "", ran + 1
                module.log = lambda name, *a, **k: own_log(prefix + name, *a, **k)  # type: ignore[method-assign]
                found = own(batch, *args, **kwargs)
                loss = found.get("loss") if isinstance(found, dict) else found
                if loss is None:
                    raise ValueError("IRLCallback: training_step returned no loss")
                return loss, found

            self.steps.tapped.model.step = view
            try:
                terms, (first, *_) = self.steps(batch, trainer.current_epoch, trainer.global_step)
            finally:
                module.__dict__.pop("log", None)
            module.log_dict(scalars(terms, self.steps.irl_loss))
            return {**first, "loss": terms.total} if isinstance(first, dict) else terms.total

        self.steps.attach(module, own)  # What it calls is set in each step, which has the other arguments.
        module.training_step = training_step  # type: ignore[method-assign]

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        dataset: Any = getattr(trainer.train_dataloader, "dataset", None)
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(trainer.current_epoch)

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """The module is as it was."""
        self.steps.detach()
        module.__dict__.pop("training_step", None)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.on_fit_end(trainer, module)
