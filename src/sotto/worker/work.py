"""How far one job is: for its log lines, its progress, and what is said when its time is over.

Invariant: seconds, sizes and counts only; nothing that the job sent or that is said in its audio.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sotto.engine.memory import used_bytes
from sotto.transcript.transcript import Transcript


@dataclass(frozen=True, slots=True)
class HowFar:
    """Where a job is. `audio_s_done`: up to the last segment; `audio_s_total`: None if not known.

    `stage`: `load` (waiting for the model), `fetch`, `transcribe` or `deliver`.
    """

    stage: str
    audio_s_done: float
    audio_s_total: float | None
    segments: int

    def __str__(self) -> str:
        return {
            "load": "the model was still being loaded",
            "fetch": "the audio was still being fetched",
            "transcribe": f"it had come to second {self.audio_s_done:.1f} of the audio, "
            f"segment {self.segments}",
            "deliver": "the answer was still being handed over",
        }[self.stage]


class Work:
    """One job that is being worked on. Printed, it is the end of a log line."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._since = time.perf_counter()
        self._transcript = Transcript()
        self._device = "cpu"
        self._stage = "load"

    def model_is_there(self, transcript: Transcript, device: str) -> None:
        """The model is there, on `device`; from now on `transcript` grows."""
        self._transcript, self._device = transcript, device
        self._stage = "fetch"

    def delivering(self) -> None:
        """The answer is there."""
        self._stage = "deliver"

    def how_far(self) -> HowFar:
        """Where it is just now."""
        segments, heard_s = self._transcript.segments, self._transcript.duration_s
        if self._stage == "deliver":
            return HowFar("deliver", heard_s, heard_s, len(segments))
        stage = "transcribe" if self._transcript.tracks else self._stage
        done_s = segments[-1].end_s if segments else 0.0
        return HowFar(stage, done_s, self._transcript.length_s, len(segments))

    def __str__(self) -> str:
        elapsed_s = time.perf_counter() - self._since
        told = f"{self._transcript.duration_s:.1f} s of audio in {elapsed_s:.2f} s"
        stages = self._transcript.seconds()
        del stages["total"]
        if stages:
            told += f" ({', '.join(f'{stage} {s:.2f}' for stage, s in stages.items())})"
        used = used_bytes(self._device)
        return told if used is None else f"{told}; {self._device} memory {used / 1e6:.0f} MB"
