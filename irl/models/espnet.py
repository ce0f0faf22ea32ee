"""ESPnet's base classes, or plain stand-ins where ESPnet is not installed: the model itself needs torch alone."""

from torch import nn

try:
    from espnet2.asr.decoder.abs_decoder import AbsDecoder
    from espnet2.asr.encoder.abs_encoder import AbsEncoder
    from espnet.nets.scorer_interface import BatchScorerInterface
except ImportError:

    class AbsEncoder(nn.Module):  # type: ignore[no-redef]
        pass

    class AbsDecoder(nn.Module):  # type: ignore[no-redef]
        pass

    class BatchScorerInterface:  # type: ignore[no-redef]
        pass


__all__ = ["AbsDecoder", "AbsEncoder", "BatchScorerInterface"]
