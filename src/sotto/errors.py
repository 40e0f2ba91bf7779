"""Every error a caller can see, each with a code that never changes.

The tree (a class owns its code; a group has none of its own and is never raised)::

    SottoError
      RequestError         invalid_request       the field is in .field
      UnknownModel         unknown_model
      SourceError
        SourceUnreachable  source_unreachable
        SourceForbidden    source_forbidden
        SourceTooLarge     source_too_large
        SourceTimeout      source_timeout
      AudioError
        AudioUndecodable   audio_undecodable
        AudioEmpty         audio_empty
        AudioTooLong       audio_too_long
      EngineError          engine_failed
        OutOfMemory        out_of_memory
      DeliveryError
        ResultTooLarge     result_too_large
        UploadFailed       upload_failed
      Overloaded           overloaded
      JobTimeout           timeout
      InternalError        internal

Invariant: a library's exceptions are translated where the library is called, and
whatever is still not a SottoError when it reaches the worker becomes InternalError.
"""

from __future__ import annotations

from typing import ClassVar


def first_line(error: BaseException) -> str:
    """What a library says of its error, in one line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class SottoError(Exception):
    """Base of every error that is meant for the caller."""

    code: ClassVar[str] = ""
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str] = ""


class RequestError(SottoError):
    """The job's input breaks a rule; the message names the field, the value and what is allowed."""

    code = "invalid_request"
    remedy = "Correct the field that the message names."

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field


class UnknownModel(SottoError):
    """The model asked for is not on this worker."""

    code = "unknown_model"
    remedy = (
        "Ask for a model that the message lists, bake another image, or set "
        "`SOTTO_MODEL_FALLBACK=baked`."
    )


class SourceError(SottoError):
    """The audio could not be fetched."""


class SourceUnreachable(SourceError):
    """The address did not give the audio: no such host, connection broken, or an HTTP error."""

    code = "source_unreachable"
    retryable = True
    remedy = "Check the address; if it is right, send the job again."


class SourceForbidden(SourceError):
    """The address refused us (401, 403), or it is one that a worker must not open."""

    code = "source_forbidden"
    remedy = (
        "Sign the URL, pass `audio_headers`, or use a public address; private networks are never "
        "opened."
    )


class SourceTooLarge(SourceError):
    """The audio has more bytes than `SOTTO_MAX_AUDIO_BYTES`."""

    code = "source_too_large"
    remedy = "Compress the audio, or raise the limit."


class SourceTimeout(SourceError):
    """The audio did not arrive in time."""

    code = "source_timeout"
    retryable = True
    remedy = "Serve the audio from a faster place, or raise `SOTTO_FETCH_TIMEOUT_S`."


class AudioError(SottoError):
    """The bytes arrived, but they are not audio we can use."""


class AudioUndecodable(AudioError):
    """The bytes hold no audio that can be decoded; the message gives the decoder's reason."""

    code = "audio_undecodable"
    remedy = "Send a file that ffmpeg can play and that has an audio track."


class AudioEmpty(AudioError):
    """There are no bytes, or no sample of audio in them."""

    code = "audio_empty"
    remedy = "Send audio that is not empty."


class AudioTooLong(AudioError):
    """The audio decodes to more seconds than `SOTTO_MAX_AUDIO_S`."""

    code = "audio_too_long"
    remedy = "Split the audio, or raise the limit."


class EngineError(SottoError):
    """The model failed on this audio, or could not be loaded."""

    code = "engine_failed"
    retryable = True
    remedy = "Send the job again; if it fails again, the worker's log has the cause."


class OutOfMemory(EngineError):
    """The device has no memory left for even one window."""

    code = "out_of_memory"
    retryable = False
    remedy = "Use a smaller model or compute type, or a larger device."


class DeliveryError(SottoError):
    """The answer exists but could not be handed over."""


class ResultTooLarge(DeliveryError):
    """The answer has more bytes than the platform takes, and there is no store for it."""

    code = "result_too_large"
    remedy = (
        "Give `upload_url` or an `s3Config`, set `SOTTO_S3_*` on the worker, leave out "
        "`word_timestamps`, or split the audio."
    )


class UploadFailed(DeliveryError):
    """The answer could not be stored where the caller asked."""

    code = "upload_failed"
    retryable = True
    remedy = (
        "Check the store's address, which must be public, its bucket and credentials, and that "
        "`upload_url` has not expired."
    )


class Overloaded(SottoError):
    """The worker already holds as much work as it may."""

    code = "overloaded"
    retryable = True
    remedy = "Send the job again later, or allow more workers."


class JobTimeout(SottoError):
    """The job ran longer than it may."""

    code = "timeout"
    retryable = True
    remedy = "Split the audio, or raise the limit."


class InternalError(SottoError):
    """A fault of ours, or of the worker's disk; the worker's log has the job id and the reason."""

    code = "internal"
    retryable = True
    remedy = "Report it with the job id."
