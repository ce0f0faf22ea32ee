"""A training step of the 4-4 encoder-decoder beside one of ESPnet's RNNEncoder and RNNDecoder of the same size.

Forward, cross-entropy, backward and Adam on 16 utterances of up to 4.4 s (438 frames of 80 mels) and 60 tokens, 320
units, 4 + 4 layers, location attention with 10 channels of 201 frames, no subsampling, no dropout. ESPnet's encoder
is one packed BLSTM of four layers with a projection to 320 at the end, on which its attention reads (ours reads the 640
units themselves, and has layer normalisation); with --projections also its default, projections between the layers.
"""

from __future__ import annotations

import logging
from typing import Callable

import torch
from harness import Report, alternate, arguments, parse
from torch import Tensor, nn
from torch.nn import functional as F

from irl.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

UNITS, UTTERANCES, FRAMES, TOKENS, MELS, VOCABULARY = 320, 16, 438, 60, 80, 30


class ESPnet(nn.Module):
    def __init__(self, projection: bool) -> None:
        super().__init__()
        from espnet2.asr.decoder.rnn_decoder import RNNDecoder
        from espnet2.asr.encoder.rnn_encoder import RNNEncoder

        self.encoder = RNNEncoder(
            MELS, use_projection=projection, num_layers=4, hidden_size=UNITS, output_size=UNITS, subsample=None
        )
        self.decoder = RNNDecoder(VOCABULARY, self.encoder.output_size(), num_layers=4, hidden_size=UNITS)

    def forward(self, x: Tensor, x_lens: Tensor, y: Tensor, y_lens: Tensor) -> Tensor:
        encoded, lens, _ = self.encoder(x, x_lens)
        return self.decoder(encoded, lens, y, y_lens)[0]


class Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = EncoderDecoderConfig(
            encoder_units=UNITS,
            decoder_units=UNITS,
            embedding_units=UNITS,
            attention_units=UNITS,
            location_width=100,
            ctc=False,
        )
        self.model = EncoderDecoder(MELS, VOCABULARY, config)

    def forward(self, x: Tensor, x_lens: Tensor, y: Tensor, y_lens: Tensor) -> Tensor:
        return self.model(x, x_lens, y, y_lens).logits


def make_step(model: nn.Module) -> Callable[[], None]:
    torch.manual_seed(0)
    x = torch.randn(UTTERANCES, FRAMES, MELS)
    # ESPnet's encoder takes batches in order of length only.
    x_lens = torch.randint(FRAMES * 3 // 4, FRAMES + 1, (UTTERANCES,)).sort(descending=True).values
    x_lens[0] = FRAMES
    y = torch.randint(1, VOCABULARY - 1, (UTTERANCES, TOKENS))
    y_lens = torch.full((UTTERANCES,), TOKENS)
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        logits = model(x, x_lens, y, y_lens)
        F.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    logging.disable(logging.WARNING)
    parser = arguments(__doc__)
    parser.add_argument("--projections", action="store_true", help="also ESPnet's encoder with projections")
    args = parse(parser)
    report = Report("Training step of the encoder-decoder", args, ("espnet",))
    torch.manual_seed(0)
    models: dict[str, nn.Module] = {"irl": Ours(), "ESPnet": ESPnet(projection=False)}
    if args.projections:
        models["ESPnet, projections"] = ESPnet(projection=True)
    sizes = ", ".join(f"{n} {sum(p.numel() for p in m.parameters()) / 1e6:.1f} M" for n, m in models.items())
    report.say(f"{UNITS} units, {UTTERANCES} utterances of up to {FRAMES} frames, {TOKENS} tokens. Parameters: {sizes}.")
    steps = {name: make_step(model) for name, model in models.items()}
    report.table(alternate(steps, args.rounds, warmup=1, label="steps"), "irl", UTTERANCES, "utterances/s")
    report.close()


if __name__ == "__main__":
    main()
