"""A model of large-v3-turbo's shape with random weights on a GPU, float16, 16 files in flight.

Every window yields 100 tokens. *Engine*: windows cut beforehand, straight into the batcher;
*pipeline*: whole files, decoding, VAD and features included.
`BatchedInferencePipeline` gets the first four of the files, one after another. × real time counts
the seconds of the windows for the engine, and those of the files for the other two. GPU MB: the
most that was taken of the GPU, by all processes. Load: from nothing until the model is warm, CUDA's
start included, on a GPU that has seen CTranslate2's kernels before. Each variant is run once.

At commit 191d73157c75 cuBLAS 13 stood in for 12, and all files were decoded by threads of one
process, which bounded the pipeline there: each file has had a decoder of its own since. Variants
without a row were not reached.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from bench.measure import Clock, Task, measured
from bench.ours import with_engine
from bench.peers import WEIGHTS
from bench.rows import Row
from bench.simulated import asks
from bench.speech import CACHE, mp3
from bench.table import Column, Goal, Plot
from bench.weights import FORCED, TURBO, make
from sotto.engine import whisper
from sotto.engine.batcher import Batcher
from sotto.engine.devices import CUDA, Batching

TITLE = "On a GPU"
COLUMNS = (
    Column("times_real", "× real time", ".0f"),
    Column("wall_s", "wall s", ".2f"),
    Column("cpu_s", "CPU s"),
    Column("windows", "windows", "d"),
    Column("peak_mb", "peak MB", ".0f"),
    Column("gpu_mb", "GPU MB", ".0f"),
    Column("load_s", "load s"),
)
TOKENS = 100
FILES = 16
MINUTES = 10
PEER_FILES = 4
BATCH = CUDA.decode
BATCHES = (8, 32, 64)
SAMPLE_MS = 50
ENGINE = "bench.scenarios.gpu:engine"
PIPELINE = "bench.scenarios.gpu:pipeline"
PEER = "bench.scenarios.gpu:peer"
KINDS = {ENGINE: "Sotto, engine", PIPELINE: "Sotto, pipeline", PEER: "BatchedInferencePipeline"}


def _named(call: str, beam_size: int, align: bool, workers: int, batch: int) -> str:
    search = "greedy" if beam_size == 1 else f"beam {beam_size}"
    aligned = "aligned" if align else "not aligned"
    return f"{KINDS[call]}, {search}, {aligned}, workers {workers}, batch {batch}"


GOALS = (
    Goal(
        "× real time, greedy, aligned",
        _named(ENGINE, 1, True, CUDA.threads, BATCH),
        "times_real",
        least=1000,
        form=".0f",
    ),
)
PLOTS = (Plot("gpu", "times_real", "× real time"),)


def run(_repeats: int) -> Iterator[Row]:
    """Each variant once; nothing without a GPU."""
    if not whisper.cuda_devices():
        print("  no CUDA device: nothing is measured here")
        return
    weights = CACHE / "turbo"
    if not (weights / "preprocessor_config.json").exists():
        print("  making random weights", flush=True)
        make(weights, TURBO, WEIGHTS)
    given = {"weights": str(weights), "device": "cuda", "compute_type": "float16"}
    paths = [str(mp3(MINUTES))] * FILES
    for call, options in _variants():
        some = paths[:PEER_FILES] if call == PEER else paths
        with _gpu_memory() as taken_mb:
            result = measured(Task(call, {**given, "paths": some, **options}))
        values = {
            **result.value,
            "times_real": round(result.value["audio_s"] / result.wall_s, 1),
            "wall_s": round(result.wall_s, 3),
            "cpu_s": round(result.cpu_s, 2),
            "peak_mb": round(result.peak_mb, 1),
            "gpu_mb": max(taken_mb),
        }
        name = _named(call, **options)
        print(f"  {name}: {values['times_real']:.0f} × real time", flush=True)
        yield Row("gpu", name, values, {**options, "tokens": TOKENS, "files": len(some)})


@contextmanager
def _gpu_memory() -> Iterator[list[float]]:
    """What is taken of the GPU, in MB of 10^6 bytes, looked up again and again."""
    ask = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    taken: list[float] = []
    with subprocess.Popen(
        [*ask, f"--loop-ms={SAMPLE_MS}"], stdout=subprocess.PIPE, text=True
    ) as looking:

        def read() -> None:
            taken.extend(round(int(line) * 1024**2 / 1e6, 1) for line in looking.stdout or ())

        reader = Thread(target=read)
        reader.start()
        try:
            yield taken
        finally:
            looking.terminate()
            reader.join()


def _variants() -> Iterator[tuple[str, dict[str, Any]]]:
    for beam_size in (1, 5):
        for workers in (1, 2):
            common = {"beam_size": beam_size, "workers": workers, "batch": BATCH}
            yield ENGINE, {**common, "align": True}
            yield ENGINE, {**common, "align": False}
            yield PIPELINE, {**common, "align": True}
            yield PIPELINE, {**common, "align": False}
        yield PEER, {"beam_size": beam_size, "workers": 1, "batch": BATCH, "align": False}
    for batch in BATCHES:
        yield ENGINE, {"beam_size": 1, "workers": 1, "batch": batch, "align": True}
    yield ENGINE, {"beam_size": 1, "workers": 2, "batch": 32, "align": True}
    yield ENGINE, {"beam_size": 5, "workers": 1, "batch": 32, "align": True}


def engine(
    clock: Clock, paths: Sequence[str], beam_size: int, align: bool, **how: Any
) -> dict[str, Any]:
    """A task: every file's windows at once into the batcher, each file a job."""
    loaded, load_s = _engine(**how)
    windows = asyncio.run(asks(paths[0], _options(beam_size, align), loaded.mels))
    loaded.decode(windows[: loaded.batch_limit])
    batcher = Batcher(loaded)
    with clock:
        futures = [batcher.submit(job, ask) for ask in windows for job in range(len(paths))]
        wait(futures)
    tokens = [len(future.result().draft.tokens) for future in futures]
    batcher.close()
    audio_s = sum(ask.features.shape[1] for ask in windows) / 100 * len(paths)
    return {**_worth(audio_s, tokens), "load_s": load_s}


def pipeline(
    clock: Clock, paths: Sequence[str], beam_size: int, align: bool, **how: Any
) -> dict[str, Any]:
    """A task: all files at once through all of Sotto."""
    loaded, load_s = _engine(**how)
    options = _options(beam_size, align)
    first = asyncio.run(asks(paths[0], options, loaded.mels))[: loaded.batch_limit]
    loaded.decode(first)
    made = with_engine(clock, paths, loaded, options)
    tokens = [len(segment.tokens) for transcript in made for segment in transcript.segments]
    audio_s = sum(transcript.duration_s for transcript in made)
    return {**_worth(audio_s, tokens), "load_s": load_s}


def peer(
    clock: Clock, paths: Sequence[str], beam_size: int, align: bool, **how: Any
) -> dict[str, Any]:
    """A task: the files one after another through BatchedInferencePipeline."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(how["weights"], device=how["device"], compute_type=how["compute_type"])
    options = {
        "language": "en",
        "beam_size": beam_size,
        "word_timestamps": align,
        "batch_size": how["batch"],
        "suppress_tokens": FORCED["suppress_tokens"],
        # CTranslate2 halves the sum of this and the prompt's four tokens.
        "max_new_tokens": 2 * TOKENS - 4,
    }
    batched = BatchedInferencePipeline(model)
    list(batched.transcribe(paths[0], **options)[0])
    audio_s, tokens = 0.0, []
    with clock:
        for path in paths:
            segments, info = batched.transcribe(path, **options)
            tokens += [len(segment.tokens) for segment in segments]
            audio_s += info.duration
    return _worth(audio_s, tokens)


def _worth(audio_s: float, tokens: Sequence[int]) -> dict[str, Any]:
    """What was done; each item of `tokens` is one window's."""
    return {"audio_s": audio_s, "windows": len(tokens), "tokens_a_window": sorted(set(tokens))}


def _engine(
    weights: str, device: str, compute_type: str, workers: int, batch: int
) -> tuple[whisper.Whisper, float]:
    """A warm engine, and the seconds that it took."""
    begun_s = time.perf_counter()
    batching = Batching(threads=workers, encode=batch, decode=batch, sample=batch)
    engine = whisper.load("random", Path(weights), device, compute_type, batching)
    engine.warm_up()
    return engine, round(time.perf_counter() - begun_s, 3)


def _options(beam_size: int, align: bool) -> Mapping[str, Any]:
    return {
        **FORCED,
        "language": "en",
        "beam_size": beam_size,
        "max_new_tokens": TOKENS,
        "without_timestamps": not align,
    }
