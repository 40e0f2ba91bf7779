"""Real speech with known words and known times, from recordings that Debian packages.

Invariant: the same packages give the same files; they lie in a folder that git ignores.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from tools.make_speech import RATE, Sound, read, sounding

from bench.measure import ROOT
from bench.rows import SEED

CACHE = ROOT / "bench" / ".cache"
USR = Path("/usr")
VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
PAUSES_S = (0.3, 1.6)
CLIP_S = (3.0, 10.0)
SHORTEST_S = 0.5
LOOP_MIN = 10
MP3_RATE = 44_100
MP3_BITS_PER_S = 128_000


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording in a long file; its sound begins and ends at these seconds of the file."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class LongFile:
    """All recordings of one voice in one file, in a seeded order, with pauses between them."""

    path: Path
    utterances: tuple[Utterance, ...]


def long_file(language: str, order: int = SEED) -> LongFile:
    """The long file of a language: about 20 to 29 minutes, 16 kHz mono wav.

    `order` seeds in which order the recordings come, and how long the pauses are.
    """
    path = CACHE / (f"{language}-long.wav" if order == SEED else f"{language}-long-{order}.wav")
    listing = path.with_suffix(".json")
    if not listing.exists():
        sound, utterances = _strung(language, order)
        _save(path, sound)
        text = json.dumps([asdict(utterance) for utterance in utterances], ensure_ascii=False)
        listing.write_text(text, encoding="utf-8")
    entries = json.loads(listing.read_text(encoding="utf-8"))
    return LongFile(path, tuple(Utterance(**entry) for entry in entries))


def clips(count: int) -> list[Path]:
    """So many English recordings of 3 to 10 s, each its own file."""
    paths = [CACHE / f"clip-{number:02}.wav" for number in range(count)]
    if not all(path.exists() for path in paths):
        short, long = (seconds * RATE for seconds in CLIP_S)
        fitting = [sound for _, sound in _prompts("en") if short <= len(sound) <= long]
        for path, sound in zip(paths, random.Random(SEED).sample(fitting, count), strict=True):
            _save(path, sound)
    return paths


def beginning(seconds: int) -> Path:
    """The first seconds of the English long file."""
    path = CACHE / f"en-{seconds}s.wav"
    if not path.exists():
        _save(path, _samples(long_file("en").path, seconds))
    return path


def mp3(minutes: int) -> Path:
    """English speech as mp3 (44.1 kHz stereo, 128 kb/s): the first 10 minutes again and again."""
    path = CACHE / f"en-{minutes}min.mp3"
    if not path.exists():
        loop = CACHE / "loop.mp3"
        if not loop.exists():
            _encode(_samples(long_file("en").path, LOOP_MIN * 60), loop)
        # Without headers, mp3 files laid end to end are one mp3 file.
        path.write_bytes(loop.read_bytes() * (minutes // LOOP_MIN))
    return path


def _strung(language: str, order: int) -> tuple[Sound, list[Utterance]]:
    prompts = list(_prompts(language))
    rng = random.Random(order)
    rng.shuffle(prompts)
    parts: list[Sound] = []
    utterances = []
    at = 0
    for text, sound in prompts:
        first, last = sounding(sound)
        utterances.append(Utterance(text, (at + first) / RATE, (at + last) / RATE))
        pause = np.zeros(int(RATE * rng.uniform(*PAUSES_S)), np.int16)
        parts += [sound, pause]
        at += len(sound) + len(pause)
    return np.concatenate(parts), utterances


def _prompts(language: str) -> Iterator[tuple[str, Sound]]:
    """What is said in each recording of a voice, and its sound."""
    listing = USR / f"share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz"
    folder = USR / "share/asterisk/sounds" / VOICES[language]
    if not (listing.exists() and folder.exists()):
        _install()
    raw = gzip.decompress(listing.read_bytes())
    try:
        lines = raw.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        lines = raw.decode("latin-1").splitlines()
    for line in lines:
        name, _, text = (part.strip() for part in line.partition(":"))
        path = folder / f"{name}.g722"
        # Comments, folders of letters and digits, and stage directions are no prompts.
        if line.startswith(";") or "/" in name or "[" in text or not text or not path.exists():
            continue
        sound = read(path)
        if len(sound) > SHORTEST_S * RATE:
            yield text, sound


def _install() -> None:
    """Install the packages, or say how to and stop."""
    packages = [
        f"asterisk-core-sounds-{language}{end}" for language in VOICES for end in ("", "-g722")
    ]
    # Slim images leave out /usr/share/doc, where the texts are.
    command = ["apt-get", "install", "-y", "-o", "Dpkg::Options::=--path-include=/usr/share/doc/*"]
    command += packages
    if os.geteuid() != 0:
        sys.exit(f"the speech is missing; as root: {' '.join(command)}")
    subprocess.run(command, check=True, stdout=sys.stderr)


def _samples(path: Path, seconds: int) -> Sound:
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(seconds * RATE), np.int16)


def _save(path: Path, sound: Sound) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound.tobytes())


def _encode(sound: Sound, path: Path) -> None:
    options = {"write_xing": "0", "id3v2_version": "0"}
    resampler = av.AudioResampler(format="s16p", layout="stereo", rate=MP3_RATE)
    with av.open(str(path), "w", format="mp3", options=options) as container:
        stream = container.add_stream("libmp3lame", rate=MP3_RATE)
        stream.layout = "stereo"
        stream.bit_rate = MP3_BITS_PER_S
        for frame in (*_frames(sound), None):
            for resampled in resampler.resample(frame):
                container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))


def _frames(sound: Sound) -> Iterator[av.AudioFrame]:
    """The sound by the second: Sotto's decoder limits what one frame may take of memory."""
    for start in range(0, len(sound), RATE):
        second = sound[start : start + RATE].reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(second, format="s16", layout="mono")
        frame.sample_rate = RATE
        yield frame
