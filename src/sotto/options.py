"""The options of a job, each written once: its name, type, bounds, default and meaning.

Invariant: an option that stands here acts; docs/api.md is generated from these structs.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sotto.audio.pcm import WINDOW_S
from sotto.languages import LANGUAGES
from sotto.transcript.formats import FORMATS

FORMAT_NAMES = ", ".join(FORMATS)
MOST_SUPPRESSED = 5_000
"""Tokens that a job may suppress: CTranslate2 goes through them for every row at every step."""
MOST_CLIPS = 5_000
"""Clips of one job; its speech is matched against them."""
COLDEST = 0.001
"""The least temperature that is not taken for 0."""
LEAST_STEP = 0.05
"""A smaller one would try a window, which all jobs wait for, a hundred times."""


class VadParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How speech is told from silence; names and meaning are faster-whisper's `VadOptions`."""

    threshold: Annotated[
        float, Meta(ge=0, le=1, description="Probability from which a moment counts as speech.")
    ] = 0.5
    neg_threshold: Annotated[
        float | None,
        Meta(description="Probability below which speech ends; not given: 0.15 under `threshold`."),
    ] = None
    min_speech_duration_ms: Annotated[
        int, Meta(ge=0, le=30_000, description="Speech shorter than this is dropped.")
    ] = 0
    max_speech_duration_s: Annotated[
        float, Meta(ge=1, le=WINDOW_S, description="Speech longer than this is cut at a pause.")
    ] = float(WINDOW_S)
    min_silence_duration_ms: Annotated[
        int, Meta(ge=0, le=30_000, description="A pause shorter than this does not end speech.")
    ] = 160
    speech_pad_ms: Annotated[
        int, Meta(ge=0, le=400, description="Audio decoded before and after speech.")
    ] = 200


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a job's `input`."""

    audio: Annotated[
        str | None, Meta(description="http(s) URL of the audio, or a `data:` URI.")
    ] = None
    audio_base64: Annotated[
        str | None,
        Meta(description="The audio itself: base64, URL-safe base64 or a `data:` URI."),
    ] = None
    audio_path: Annotated[
        str | None, Meta(description="File on a mounted volume, below `SOTTO_AUDIO_ROOTS`.")
    ] = None
    audio_headers: Annotated[
        dict[str, str] | None, Meta(description="Headers sent with the request for `audio`.")
    ] = None
    model: Annotated[
        str | None, Meta(description="Name of the model; not given: the worker's `SOTTO_MODEL`.")
    ] = None
    transcription: Annotated[
        str, Meta(title=FORMAT_NAMES, description="Format of the answer's `transcription`.")
    ] = "plain_text"
    translate: Annotated[bool, Meta(description="Translate into English too?")] = False
    translation: Annotated[
        str, Meta(title=FORMAT_NAMES, description="Format of the answer's `translation`.")
    ] = "plain_text"
    language: Annotated[
        str | None,
        Meta(
            title=f"one of {len(LANGUAGES)} codes such as en, es, zh",
            description="The spoken language; not given: it is detected.",
        ),
    ] = None
    multilingual: Annotated[bool, Meta(description="Detect the language of each window?")] = False
    temperature: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description=f"Sampling temperature; 0, or less than {COLDEST}, searches by beam.",
        ),
    ] = 0.0
    best_of: Annotated[
        int, Meta(ge=1, le=20, description="Candidates when sampling (temperature above 0).")
    ] = 5
    beam_size: Annotated[
        int, Meta(ge=1, le=20, description="Beams at temperature 0; 1 is greedy.")
    ] = 5
    patience: Annotated[
        float, Meta(gt=0, le=10, description="How long beam search goes on looking.")
    ] = 1.0
    length_penalty: Annotated[
        float, Meta(ge=-10, le=10, description="Exponent on length when beams are ranked.")
    ] = 1.0
    suppress_tokens: Annotated[
        str | int | list[int],
        Meta(
            description="Token ids never produced, list or comma-separated, at most "
            f"{MOST_SUPPRESSED}; -1: all non-speech."
        ),
    ] = "-1"
    repetition_penalty: Annotated[
        float, Meta(gt=0, le=10, description="Above 1: tokens that have come before cost more.")
    ] = 1.0
    no_repeat_ngram_size: Annotated[
        int, Meta(ge=0, le=100, description="No run of so many tokens comes twice; 0: any may.")
    ] = 0
    max_new_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=444)] | None,
        Meta(
            description="Tokens of one window at most; not given: all that fit. Speech behind "
            "them is not asked for again."
        ),
    ] = None
    initial_prompt: Annotated[
        str | None, Meta(description="Text that precedes the first window.")
    ] = None
    hotwords: Annotated[
        str | None, Meta(description="Names and terms that every window is told to expect.")
    ] = None
    condition_on_previous_text: Annotated[
        bool, Meta(description="Prompt each window with the text before it? One at a time then.")
    ] = False
    temperature_increment_on_fallback: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description=f"Step of the next try after a bad result, at least {LEAST_STEP}; 0: no "
            "retry.",
        ),
    ] = 0.2
    compression_ratio_threshold: Annotated[
        float, Meta(description="A text that compresses better than this is decoded again.")
    ] = 2.4
    logprob_threshold: Annotated[
        float,
        Meta(description="A transcription with an average log-probability below is decoded again."),
    ] = -1.0
    no_speech_threshold: Annotated[
        float,
        Meta(description="No-speech probability above which an improbable window is silence."),
    ] = 0.6
    enable_vad: Annotated[
        bool, Meta(description="Leave out what is not speech? Off: everything is decoded.")
    ] = True
    clip_timestamps: Annotated[
        str | list[float],
        Meta(
            description="Only these stretches: start, end, start, ... in seconds, list or "
            f"comma-separated, at most {MOST_CLIPS} stretches; without a last end, up to the end "
            "of the audio."
        ),
    ] = "0"
    channels: Annotated[
        Literal["mix", "split"],
        Meta(description="Mix the channels, or transcribe each by itself and label its segments?"),
    ] = "mix"
    vad_parameters: Annotated[
        VadParameters, Meta(description="How speech is found; see the table below.")
    ] = VadParameters()
    word_timestamps: Annotated[bool, Meta(description="Answer with the time of each word?")] = False
    without_timestamps: Annotated[
        bool, Meta(description="Skip the alignment: one segment for each window of up to 30 s.")
    ] = False
    max_line_width: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(description="Columns of a line in `srt` and `vtt`; a wide letter, as 字, takes two."),
    ] = None
    max_line_count: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        Meta(description="Lines in a cue of `srt` and `vtt`."),
    ] = None
    stream: Annotated[
        bool, Meta(description="Send segments to `/stream` as they become final?")
    ] = False
    upload: Annotated[
        bool, Meta(description="Put the answer into the S3 store, however small, and give a link?")
    ] = False
    upload_url: Annotated[
        str | None,
        Meta(description="Presigned http(s) URL to which the answer is PUT; you get a summary."),
    ] = None
    upload_headers: Annotated[
        dict[str, str] | None, Meta(description="Headers sent with the answer to `upload_url`.")
    ] = None
