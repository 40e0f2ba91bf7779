"""Make the speech of the tests and of `test_input.json` from recordings that Debian packages.

    apt-get install asterisk-core-sounds-{en,es,fr,it,ru}-g722 pocketsphinx-testdata
    python tools/make_speech.py

`tests/speech/prompts.toml` says which recordings make which clip and what is said in them. This
program writes the clips beside it as Ogg Opus, `speech.json` with each clip's words and times, and
`test_input.json`. Running it again is needed only to change the selection.

Invariant: the same recordings and the same PyAV give the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
SPEECH = ROOT / "tests" / "speech"
RATE = 16000
HOP_S = 0.01
AUDIBLE = 0.03  # of the recording's peak: above the noise, below the softest consonant
MARGIN_S = 0.1  # of a recording's own silence kept around what is said, where clips are joined
PAUSES_S = (0.4, 1.2)
CLIP_BITS_PER_S = 24_000
INPUT_BITS_PER_S = 16_000

Sound = NDArray[np.int16]


def main() -> None:
    """Write every clip, their list, and the test input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--usr", type=Path, default=Path("/usr"), help="where the packages lie")
    usr: Path = parser.parse_args().usr
    selection = tomllib.loads((SPEECH / "prompts.toml").read_text(encoding="utf-8"))
    clips = [
        make_clip(name, clip, selection["voices"][clip["voice"]], usr)
        for name, clip in selection["clips"].items()
    ]
    listing = json.dumps({"clips": clips}, ensure_ascii=False, indent=1)
    (SPEECH / "speech.json").write_text(listing + "\n", encoding="utf-8")
    make_test_input(usr / selection["test_input"]["recording"])


def make_clip(name: str, clip: dict[str, Any], voice: dict[str, str], usr: Path) -> dict[str, Any]:
    """Write one clip and return its entry in `speech.json`."""
    sounds = [read(usr / voice["recordings"].format(prompt)) for prompt in clip["says"]]
    sound, spans = join(sounds, random.Random(name))
    path = SPEECH / f"{name}.ogg"
    path.write_bytes(opus(sound, CLIP_BITS_PER_S))
    texts = list(clip["says"].values())
    print(f"{path.name}: {len(sound) / RATE:.1f} s, {path.stat().st_size / 1000:.0f} kB")
    return {
        "file": path.name,
        "language": voice["language"],
        "seconds": round(len(sound) / RATE, 3),
        "text": " ".join(texts),
        "english": clip.get("english"),
        "speaker": voice["speaker"],
        "licence": voice["licence"],
        "source": voice["source"],
        "utterances": [
            {"text": text, "start_s": start_s, "end_s": end_s}
            for text, (start_s, end_s) in zip(texts, spans, strict=True)
        ],
    }


def make_test_input(recording: Path) -> None:
    """Write the job that a worker runs when it is started by hand."""
    audio = base64.b64encode(opus(read(recording), INPUT_BITS_PER_S)).decode("ascii")
    job = json.dumps({"input": {"audio_base64": audio}}, indent=2)
    (ROOT / "test_input.json").write_text(job + "\n", encoding="ascii")
    print(f"test_input.json: {len(job) / 1000:.0f} kB")


def read(path: Path) -> Sound:
    """Decode a recording to 16 kHz mono samples."""
    # Raw G.722 has no header that would name its format.
    container = av.open(str(path), format="g722" if path.suffix == ".g722" else None)
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with container:
        return np.concatenate(
            [
                resampled.to_ndarray().reshape(-1)
                for frame in (*container.decode(audio=0), None)
                for resampled in resampler.resample(frame)
            ]
        )


def sounding(sound: Sound) -> tuple[int, int]:
    """The samples between which something is said: first inclusive, last exclusive."""
    hop = round(HOP_S * RATE)
    peaks = np.abs(sound[: len(sound) // hop * hop].astype(np.int32)).reshape(-1, hop).max(axis=1)
    audible = np.flatnonzero(peaks > AUDIBLE * peaks.max())
    return int(audible[0]) * hop, (int(audible[-1]) + 1) * hop


def join(sounds: Sequence[Sound], rng: random.Random) -> tuple[Sound, list[tuple[float, float]]]:
    """String recordings together with pauses; return the sound and each one's span in seconds.

    A pause is measured from sound to sound. The silence before the first recording and after the
    last stays as it was recorded.
    """
    margin = round(MARGIN_S * RATE)
    parts: list[Sound] = []
    spans: list[tuple[float, float]] = []
    at = 0  # samples written
    for number, sound in enumerate(sounds):
        first, last = sounding(sound)
        begin = max(first - margin, 0) if number else 0
        end = min(last + margin, len(sound)) if number + 1 < len(sounds) else len(sound)
        if number:
            pause = round(round(rng.uniform(*PAUSES_S), 2) * RATE)
            spoken_until = round(spans[-1][1] * RATE)
            silence = pause - (at - spoken_until) - (first - begin)
            parts.append(np.zeros(silence, np.int16))
            at += silence
        spans.append(((at + first - begin) / RATE, (at + last - begin) / RATE))
        parts.append(sound[begin:end])
        at += end - begin
    return np.concatenate(parts), spans


def opus(sound: Sound, bits_per_s: int) -> bytes:
    """Encode 16 kHz mono samples as Ogg Opus."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        # Without this the stream gets a random serial number.
        container.flags |= av.container.Flags.bitexact.value
        stream = container.add_stream("libopus", rate=RATE, options={"application": "audio"})
        stream.layout = "mono"
        stream.bit_rate = bits_per_s
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


if __name__ == "__main__":
    main()
