"""A model's shape and number format in, the bytes that it takes out.

Three things are counted, with 2 bytes a number in the float16 and bfloat16 formats and 4 in others;
int8 formats hold their matrices in 1 byte a number and a float32 scale for each row:

- **Weights.** A layer of the encoder has matrices of 12 width² numbers, one of the decoder of
  16 width² (it attends twice); the embeddings, which are the output layer too, have vocabulary x
  width. Biases, norms, positions and the two convolutions are never quantised.
- **Encoding**, by window: the attention scores of a layer and their softmax, 2 x heads x 1500², and
  at most 12 rows of 1500 x width beside them. One layer at a time.
- **Decoding**, by window: the encoder's output, 1500 x width; its keys and values in every layer of
  the decoder, 2 x 1500 x width; and either those of five beams, 2 x 5 x 224 x width in every layer,
  or, when the words are aligned, the logits of all tokens, 224 x vocabulary, with a layer's
  attention, 3 x heads x 224 x 1500.
- **Sampling**, by text: the encoder's output and its keys and values once more, those of 224 tokens
  and one row of logits. A window has five such texts, which take turns where there is no room.

A window that is being encoded is not yet being decoded, so the greater phase counts. 224 tokens are
half of the decoder's positions: nobody says more in 30 s. A text that runs away takes more, and
then the calls shrink.

Invariant: pure arithmetic; what a device has is known elsewhere.
"""

from __future__ import annotations

from sotto.models.shapes import POSITIONS, TOKENS, Shape

RESERVE_BYTES = 512 * 1024**2
"""Of a device's free memory, what is not for models: libraries' buffers, and jobs on a CPU."""
FULL_CALL = 16
"""Windows in one call on a GPU."""
BEAMS = 5
TEXT = TOKENS // 2
SCALE_BYTES = 4
LOGIT_BYTES = 4


def need_bytes(
    shape: Shape,
    compute_type: str,
    *,
    encode: int = FULL_CALL,
    decode: int = FULL_CALL,
    sample: int = 1,
    threads: int = 1,
) -> int:
    """Bytes of the weights and of what `threads` calls at once work with.

    `encode`, `decode`: windows in one call of the encoder and of the decoder; `sample`: texts
    sampled in one.
    """
    calls = threads * working_bytes(shape, compute_type, encode, decode, sample)
    return weights_bytes(shape, compute_type) + calls


def weights_bytes(shape: Shape, compute_type: str) -> int:
    """Bytes of the weights, which are those of model.bin but for its names."""
    width, size = shape.width, float_bytes(compute_type)
    matrices = (
        12 * width**2 * shape.encoder_layers
        + 16 * width**2 * shape.decoder_layers
        + shape.vocabulary * width
    )
    if not compute_type.startswith("int8"):
        return size * (matrices + _others(shape))
    rows = (9 * shape.encoder_layers + 13 * shape.decoder_layers) * width + shape.vocabulary
    return matrices + SCALE_BYTES * rows + size * _others(shape)


def working_bytes(
    shape: Shape, compute_type: str, encode: int, decode: int, sample: int = 1
) -> int:
    """Bytes that one call works with, beside the weights; the module says of what."""
    width, size = shape.width, float_bytes(compute_type)
    output = size * POSITIONS * width
    encoding = size * 2 * shape.heads * POSITIONS**2 + 12 * output
    heard = output + shape.decoder_layers * 2 * output
    text = size * shape.decoder_layers * 2 * TEXT * width + LOGIT_BYTES * shape.vocabulary
    aligning = size * TEXT * (shape.vocabulary + 3 * shape.heads * POSITIONS)
    return max(
        encode * encoding,
        decode * (heard + max(BEAMS * text, aligning)),
        sample * (heard + text),
    )


def float_bytes(compute_type: str) -> int:
    """Bytes of a number that is not quantised."""
    return 2 if compute_type.endswith("float16") else 4


def _others(shape: Shape) -> int:
    """Numbers in biases, norms, positions and convolutions."""
    width = shape.width
    layers = (13 * shape.encoder_layers + 19 * shape.decoder_layers) * width
    convolutions = (3 * shape.mels + 1 + 3 * width + 1) * width
    final_norms = 4 * width
    return layers + convolutions + final_norms + (POSITIONS + TOKENS) * width
