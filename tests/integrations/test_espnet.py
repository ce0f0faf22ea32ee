"""ESPnet2's own trainer with the IRL loss, on a small Kaldi directory: a Conformer with CTC and attention."""

from argparse import Namespace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from needs import needs

from irl.core.errors import UserError

needs("espnet2")
CONFIG = {
    "token_type": "char", "frontend": "default", "normalize": "utterance_mvn", "specaug": "specaug",
    "frontend_conf": {"fs": 8000, "n_fft": 256, "hop_length": 80, "n_mels": 20},
    "specaug_conf": {"apply_time_warp": False, "apply_freq_mask": True, "freq_mask_width_range": [0, 5],
                     "num_freq_mask": 1, "apply_time_mask": False},
    "encoder": "conformer", "decoder": "transformer",
    "encoder_conf": {"output_size": 16, "attention_heads": 2, "linear_units": 16, "num_blocks": 2,
                     "cnn_module_kernel": 3, "rel_pos_type": "latest", "pos_enc_layer_type": "rel_pos",
                     "selfattention_layer_type": "rel_selfattn"},
    "decoder_conf": {"attention_heads": 2, "linear_units": 16, "num_blocks": 1},
    "model_conf": {"ctc_weight": 0.3, "report_cer": False, "report_wer": False},
    "irl_conf": {"gamma": 0.5, "layers": {"encoder.encoders.1": 1.0, "encoder": 2.0}},
    "optim": "adam", "max_epoch": 1, "batch_type": "unsorted", "batch_size": 2, "num_workers": 0, "ngpu": 0,
    "num_att_plot": 0, "use_matplotlib": False, "use_tensorboard": False, "noise_db_range": "5_10",
    "keep_nbest_models": 1, "best_model_criterion": [["valid", "loss", "min"]],
}  # fmt: skip


@pytest.fixture(scope="module")
def tasks():
    """ESPnet's task and ours. Their import takes seconds, so only the process that runs these tests pays for it."""
    from espnet2.tasks.asr import ASRTask

    from irl.integrations.espnet import IRLTask

    return ASRTask, IRLTask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("espnet"), np.random.default_rng(0)
    lines = {"wav.scp": [], "text": [], "utt2spk": [], "noise.scp": [], "shape": []}
    for i in range(4):
        path = folder / f"u{i}.wav"
        soundfile.write(path, 0.1 * rng.normal(size=6000 + 400 * i), 8000)
        lines["wav.scp"].append(f"u{i} {path}")
        lines["text"].append(f"u{i} {'AB' * (1 + i % 2)}")
        lines["utt2spk"].append(f"u{i} s")
        lines["shape"].append(f"u{i} {6000 + 400 * i}")
    soundfile.write(folder / "noise.wav", 0.1 * rng.normal(size=9000), 8000)
    lines["noise.scp"].append(f"n {folder / 'noise.wav'}")
    lines["tokens.txt"] = ["<blank>", "<unk>", "A", "B", "<sos/eos>"]
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")
    (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "noise_scp": str(folder / "noise.scp")}))
    return folder


def train(task, folder, name, *more):
    data = [(folder / "wav.scp", "speech", "sound"), (folder / "text", "text", "text")]
    arguments = [
        "--config",
        str(folder / "config.yaml"),
        "--token_list",
        str(folder / "tokens.txt"),
    ]
    for part in ("train", "valid"):
        for path, key, kind in data:
            arguments += [
                f"--{part}_data_path_and_name_and_type",
                f"{path},{key},{kind}",
            ]
        arguments += [f"--{part}_shape_file", str(folder / "shape")]
    task.main(cmd=[*arguments, "--output_dir", str(folder / name), *more])
    return torch.load(folder / name / "1epoch.pth", weights_only=True)


def test_espnets_own_trainer(tasks, folder):
    ASRTask, IRLTask = tasks
    weights = train(IRLTask, folder, "irl")
    other = train(IRLTask, folder, "batching", "--irl_conf", "gamma=0")
    assert any(not torch.equal(weights[name], other[name]) for name in weights)
    # ESPnet itself reads the model.
    model, _ = ASRTask.build_model_from_file(folder / "irl" / "config.yaml", folder / "irl" / "1epoch.pth", "cpu")
    assert type(model).__name__ == "ESPnetASRModel"
    assert all(torch.equal(x, weights[name]) for name, x in model.state_dict().items())


def configuration(tasks, folder):
    """Of a trained model, with all of ESPnet's defaults."""
    if not (folder / "irl" / "config.yaml").exists():
        train(tasks[1], folder, "irl")
    return yaml.safe_load((folder / "irl" / "config.yaml").read_text())


def batch_of(tasks, folder, config):
    preprocess = tasks[1].build_preprocess_fn(Namespace(**config), True)
    collate = tasks[1].build_collate_fn(Namespace(**config), True)
    rows = []
    for i in range(2):
        wave, _ = soundfile.read(folder / f"u{i}.wav", dtype="float32")
        row = preprocess(f"u{i}", {"speech": wave, "text": "AB" * (1 + i)})
        assert np.array_equal(row["speech"], wave) and not np.allclose(row["noisy_speech1"], wave, atol=1e-3)
        rows.append((f"u{i}", row))
    return collate(rows)[1]


def test_a_step_equals_two_passes_by_hand(tasks, folder):
    ASRTask, IRLTask = tasks
    config = configuration(tasks, folder)
    torch.manual_seed(0)
    model = IRLTask.build_model(Namespace(**config)).train()
    plain = ASRTask.build_model(Namespace(**config)).train()
    plain.load_state_dict(model.state_dict())
    batch = batch_of(tasks, folder, config)

    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    loss, stats, weight = model(**batch)
    loss.backward()
    kept, losses = {"encoder.encoders.1": [], "encoder": []}, []
    for name, outputs in kept.items():
        plain.get_submodule(name).register_forward_hook(lambda m, i, o, outputs=outputs: outputs.append(o))
    own = {name: batch[name] for name in ("text", "text_lengths", "speech_lengths")}
    for speech in (batch["speech"], batch["noisy_speech1"]):
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        losses.append(plain(speech=speech, **own)[0])
    lens = kept["encoder"][0][1]
    dist = 0.0
    for name, gamma in (("encoder.encoders.1", 1.0), ("encoder", 2.0)):
        a, b = (x[0][0] if isinstance(x[0], tuple) else x[0] for x in kept[name])
        frames = 0.1 * (a - b).norm(dim=2) + 1 - torch.cosine_similarity(a, b, dim=2)
        dist = dist + gamma * torch.stack([f[:n].mean() for f, n in zip(frames, lens)]).mean()
    total = 0.5 * losses[0] + 0.5 * losses[1] + 0.5 * dist
    total.backward()
    torch.testing.assert_close(loss.squeeze(), total.squeeze())
    torch.testing.assert_close(stats["irl_dist"].squeeze(), dist.detach())
    for (name, p), q in zip(plain.named_parameters(), model.parameters()):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("term, missing", [("alpha", "loss_clean"), ("beta", "loss_noisy"), ("gamma", "irl_dist")])
def test_what_is_not_computed_is_not_logged(tasks, folder, term, missing):
    config = configuration(tasks, folder)
    model = tasks[1].build_model(Namespace(**{**config, "irl_conf": {**config["irl_conf"], term: 0.0}})).train()
    _, stats, _ = model(**batch_of(tasks, folder, config))
    assert {"loss", "loss_clean", "loss_noisy", "irl_dist"} - set(stats) == {missing}


def test_noise_is_needed(tasks, folder):
    with pytest.raises(UserError, match="no noisy copies: give noise_scp"):
        train(tasks[1], folder, "none", "--noise_scp", "none")
