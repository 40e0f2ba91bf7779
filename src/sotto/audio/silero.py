"""PCM in, one speech probability a frame out: Silero's network, as faster-whisper ships it.

Invariant: the probabilities are those of the whole network in onnxruntime to within 1e-4, whatever
the size of the blocks; a test holds the two against each other.

onnxruntime computes the encoder's convolutions for each frame by itself, in products too small to
be fast: 5.5 of the 6.3 CPU seconds that an hour of audio takes. Here all frames of a block share a
product, and onnxruntime is left what must go frame by frame.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sotto.audio.onnx_file import behind, weights
from sotto.audio.pcm import Pcm

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FRAME = 512
"""Samples for which Silero gives one probability (32 ms)."""
CONTEXT = 64
"""Samples before a frame that Silero wants to hear again; as many are mirrored behind it."""
WINDOW, HOP = 256, 128
"""Samples of one spectrum, and from one to the next: four spectra a frame."""
MIDDLE = WINDOW // 2
"""The sample about which a spectrum's cosines are even and its sines odd."""
ENCODED = "/encoder/relu_3/Relu_output_0"
ENCODED_SHAPE = ("frames", 128, 1)
"""What the network calls its encoder's output, and its shape."""
Matrix = NDArray[np.float32]


class Silero:
    """Speech probabilities, one a frame of 512 samples, in stream order."""

    def __init__(self) -> None:
        self._network = _network()
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def __call__(self, pcm: Pcm) -> Pcm:
        """The probabilities of a whole number of frames that follow those before."""
        frames = pcm.reshape(-1, FRAME)
        before = np.concatenate([self._context[None], frames[:-1, -CONTEXT:]])
        self._context = frames[-1, -CONTEXT:].copy()
        mirrored = frames[:, -2 : -CONTEXT - 2 : -1]
        encoded = self._network.encoder(np.concatenate([before, frames, mirrored], 1))
        out, self._h, self._c = self._network.decoder.run(
            None, {ENCODED: encoded[:, :, None], "h": self._h, "c": self._c}
        )
        probabilities: Pcm = out.reshape(-1)
        return probabilities


@dataclass(frozen=True, slots=True)
class Encoder:
    """Spectra and four convolutions, each a product of matrices for all frames of a block.

    In a spectrum two samples equally far from MIDDLE go together, and the first has no weight: half
    of each product does. Weights are (inputs, outputs); a convolution's inputs are its three taps,
    one after another.
    """

    cosines: Matrix
    sines: Matrix
    weights: tuple[Matrix, ...]
    biases: tuple[Matrix, ...]

    def __call__(self, sound: Matrix) -> Matrix:
        """(frames, 640) samples in, (frames, 128) out."""
        heard = self._spectra(sound)
        for weight, bias, step in zip(self.weights, self.biases, (1, 2, 2, 1), strict=True):
            edged = np.pad(heard, ((0, 0), (1, 1), (0, 0)))
            taps = sliding_window_view(edged, 3, axis=1)[:, ::step].swapaxes(2, 3)
            out = taps.reshape(-1, len(weight)) @ weight
            out += bias
            np.maximum(out, 0, out=out)
            heard = out.reshape(len(sound), -1, weight.shape[1])
        encoded: Matrix = heard[:, 0]
        return encoded

    def _spectra(self, sound: Matrix) -> Matrix:
        """The magnitudes of each frame's spectra: (frames, 4, 129)."""
        windows = sliding_window_view(sound, WINDOW, axis=1)[:, ::HOP]
        first, last = windows[:, :, 1:MIDDLE], windows[:, :, :MIDDLE:-1]
        even = np.concatenate([first + last, windows[:, :, MIDDLE, None]], axis=2)
        real = even.reshape(-1, len(self.cosines)) @ self.cosines
        imaginary = (first - last).reshape(-1, len(self.sines)) @ self.sines
        real *= real
        imaginary *= imaginary
        real += imaginary
        magnitudes: Matrix = np.sqrt(real, out=real).reshape(len(sound), -1, real.shape[1])
        return magnitudes


class Network(NamedTuple):
    """Silero's two halves."""

    encoder: Encoder
    decoder: InferenceSession


@functools.cache
def _network() -> Network:
    # onnxruntime reports its use to its makers unless told not to before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Imported late: who only cuts windows or reads segments needs neither.
    import onnxruntime
    from faster_whisper.utils import get_assets_path

    model = (Path(get_assets_path()) / "silero_vad_v6.onnx").read_bytes()
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    half = behind(model, ENCODED, ENCODED_SHAPE)
    decoder = onnxruntime.InferenceSession(half, options, providers=["CPUExecutionProvider"])
    return Network(_encoder(weights(model)), decoder)


def _encoder(named: Mapping[str, Matrix]) -> Encoder:
    layers = [f"encoder.conv_layers.{number}" for number in range(4)]
    kernels = [named[f"{layer}.weight"] for layer in layers]
    basis = named["encoder.feature_extractor.forward_basis_buffer"][:, 0].T
    cosines, sines = np.split(basis, 2, axis=1)
    return Encoder(
        cosines=np.ascontiguousarray(cosines[1 : MIDDLE + 1]),
        sines=np.ascontiguousarray(sines[1:MIDDLE]),
        weights=tuple(
            np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(-1, len(kernel)))
            for kernel in kernels
        ),
        biases=tuple(named[f"{layer}.bias"] for layer in layers),
    )
