"""transformers.Trainer with the IRL loss: a CTC model and an encoder-decoder with labels, random and tiny."""

import functools

import pytest
import torch

transformers = pytest.importorskip("transformers")

from irl import L2, IRLLoss  # noqa: E402
from irl.integrations.huggingface import IRLTrainer  # noqa: E402
from irl.noise import collate_pairs, volume  # noqa: E402

NONE = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}


def wav2vec2():
    return transformers.Wav2Vec2ForCTC(
        transformers.Wav2Vec2Config(
            vocab_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
            conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embeddings=8, pad_token_id=0,
            num_conv_pos_embedding_groups=2, mask_time_prob=0.3, mask_time_length=2, layerdrop=0.0,
            ctc_loss_reduction="mean", **NONE,
        )
    )  # fmt: skip


def whisper():
    return transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            vocab_size=20, num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_source_positions=12,
            max_target_positions=10, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            dropout=0.1, begin_suppress_tokens=[], suppress_tokens=[],
        )
    )  # fmt: skip


def rows(name, *shape):
    torch.manual_seed(0)
    clean = [{name: 0.1 * torch.randn(*shape), "labels": torch.randint(3, 8, (4,))} for _ in range(4)]
    return [(row, [{**row, name: row[name] + 0.05 * torch.randn(*shape)}]) for row in clean]


stack = functools.partial(collate_pairs, collate=torch.utils.data.default_collate)


class Recording(IRLTrainer):
    """Keeps the first step's gradients, and the state of the generators and of the weights before it."""

    before = None

    def training_step(self, model, inputs, *args):
        if self.before is None:
            self.before = (
                torch.get_rng_state(),
                {k: v.clone() for k, v in model.state_dict().items()},
                inputs,
            )
        loss = super().training_step(model, inputs, *args)
        if not hasattr(self, "first"):
            self.first = float(loss), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        return loss


def trainer(model, data, folder, more=(), **settings):
    arguments = transformers.TrainingArguments(
        **dict(more),
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", logging_steps=1, learning_rate=1e-2, max_grad_norm=0.0,
    )  # fmt: skip
    return Recording(model=model, args=arguments, train_dataset=data, data_collator=stack, **settings)


CASES = [
    (wav2vec2, ("input_values", 200), "wav2vec2.encoder.layers.1", 0),
    (whisper, ("input_features", 8, 24), "model.encoder.layers.0", 0),
]


@pytest.mark.parametrize("make, shape, layer, select", CASES)
def test_two_passes_by_hand_and_from_pretrained(tmp_path, make, shape, layer, select):
    import numpy as np

    model, data = make(), rows(*shape)
    loss = IRLLoss(gamma=0.3, distance=L2("squared"))

    def picked(out):
        return out[0] if isinstance(out, tuple) else out

    run = trainer(
        model,
        data,
        tmp_path,
        layers=[layer],
        irl_loss=loss,
        tap_settings={"select": picked, "seed": 1},
    )
    np.random.seed(3)
    run.train()
    value, grads = run.first
    assert not [m for m in model.modules() if m._forward_hooks]
    assert {"irl/clean", "irl/noisy", "irl/dist", f"irl/dist/{layer}"} <= set(run.state.log_history[0])

    # By hand: each view alone, from one state of the generators.
    own = make().train()
    state, weights, (clean, [noisy]) = run.before
    own.load_state_dict(weights)
    kept, losses = [], []
    own.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(picked(o)))
    for view in (clean, noisy):
        torch.set_rng_state(state)
        np.random.seed(3)
        losses.append(own(**view).loss)
    a, b = (x.flatten(1) for x in kept)
    total = 0.5 * losses[0] + 0.5 * losses[1] + 0.3 * (a - b).square().sum(1).mean()
    total.backward()
    assert value == pytest.approx(float(total.detach()), rel=1e-5)
    for name, p in own.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(grads[name], p.grad, rtol=1e-4, atol=1e-6)

    run.save_model(str(tmp_path / "saved"))
    again = type(model).from_pretrained(tmp_path / "saved")
    assert all(torch.equal(x, y) for x, y in zip(again.state_dict().values(), model.state_dict().values()))
    assert run.evaluate(data[:2])["eval_loss"] > 0
    plain = trainer(own, data, tmp_path, layers=[layer], irl_loss=IRLLoss.preset("baseline"))
    own.load_state_dict(weights)
    plain.train()
    assert any(not torch.equal(x, y) for x, y in zip(own.state_dict().values(), model.state_dict().values()))


def test_bf16(tmp_path):
    run = trainer(
        wav2vec2(),
        rows("input_values", 200),
        tmp_path,
        {"bf16": True},
        layers=["wav2vec2.encoder.layers.1", "lm_head"],
        irl_loss=IRLLoss(gamma=0.3),
    )
    kinds = set()
    run.model.lm_head.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    run.train()
    assert kinds == {torch.bfloat16} and run.state.log_history[0]["irl/dist/lm_head"] > 0
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in run.model.parameters())


def test_evaluation_data_without_pairs_are_refused_with_the_remedy(tmp_path):
    data = rows("input_values", 200)
    run = trainer(wav2vec2(), data, tmp_path, layers=["wav2vec2.encoder"])
    with pytest.raises(ValueError, match="wrap the data set, that of evaluation too: irl.noise.paired"):
        run.evaluate([clean for clean, _ in data])


def test_noise_of_one_call(tmp_path):
    data = [clean for clean, _ in rows("input_values", 200)]
    model = wav2vec2()
    run = trainer(
        model,
        data,
        tmp_path,
        layers=["wav2vec2.encoder"],
        tap_settings={"noise": volume(0.2, 0.5), "key": "input_values", "select": 0},
    )
    run.data_collator = transformers.default_data_collator
    run.train()
    assert run.state.log_history[0]["irl/dist"] > 0
