"""An origin in, a model's finished folder out: the steps of a bake, in order.

Fetch, convert, quantise, prove, record, publish. Invariant: the folder stands at its final place
only when its model has been shown to work; what is being made lies hidden beside it, and of that
only a download outlives the run.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from dataclasses import replace
from pathlib import Path

from builder.layout import Kind, weights_of
from builder.making import (
    BakeError,
    Brought,
    Made,
    make,
    outcome,
    require_converter,
    same_format,
)
from builder.openai_checkpoint import dimensions, tokenizer_of
from builder.origin import OWN_FOLDER, Folder, Origin
from builder.prove import Proof, ProofError, prove
from builder.quantise import FORMATS

from sotto.models.catalogue import TOKENIZER, Model
from sotto.models.fetch import FetchError, Hub, alone, download, publish
from sotto.models.memory import need_bytes
from sotto.models.record import Record, missing, read, write

logger = logging.getLogger(__name__)


def bake(origin: Origin, into: Path, compute_type: str, hub: Hub) -> bool:
    """Make the folder `into` of the model from `origin`; False if that is there already.

    `compute_type` is the format to store the weights in, or DEFAULT. Blocks while another process
    makes the same folder. Raises BakeError, FetchError, ConvertError, ModelBinError, ProofError.
    """
    if _is_baked(origin, into, compute_type):
        return False
    with alone(into):
        if _is_baked(origin, into, compute_type):
            return False
        _refuse_another(origin, into)
        _bake_alone(origin, into, compute_type, hub)
    return True


def _is_baked(origin: Origin, into: Path, compute_type: str) -> bool:
    """Does `into` hold the model from `origin` in that format, to judge by record and sizes?"""
    record = read(into)
    if record is None or any(missing(record, into)):
        return False
    digest = origin.place.sha256 if isinstance(origin.place, Folder) else ""
    made_of = (record.repository, record.revision, record.folder_sha256)
    if made_of != (origin.repository, origin.revision, digest):
        return False
    if isinstance(origin.place, Model) and not record.made_from and any(record.lacks(origin.place)):
        return False
    return same_format(record.compute_type, outcome(record.original_type, compute_type))


def _bake_alone(origin: Origin, into: Path, compute_type: str, hub: Hub) -> None:
    if origin.kind is not Kind.READY:
        require_converter(origin.name)
    hidden = into.with_name(f".{into.name}.made")
    shutil.rmtree(hidden, ignore_errors=True)
    brought = _bring(origin, into, hub)
    hidden.mkdir()
    # Errors tell the name of the folder, so it is the one that it will have.
    made = hidden / into.name
    try:
        brought = _with_tokenizer(origin, brought, hidden, hub)
        result = make(origin.name, brought, made, compute_type)
        logger.info("%s: proving that it works", origin.name)
        proof = prove(made)
        write(_record(origin, brought, result, proof), made)
        publish(made, into)
    except ProofError:
        # It came as it should, and does not work: a second try would end here, too.
        _drop(brought)
        raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    _drop(brought)


def _bring(origin: Origin, into: Path, hub: Hub) -> Brought:
    if isinstance(origin.place, Folder):
        return Brought(origin.place.path, origin.place.files, origin.kind, lent=True)
    folder = download(origin.place, into, hub=hub, progress=True)
    record = read(folder)
    if record is None:
        raise FetchError(f"{origin.name}: {folder} has lost its record; bake it again")
    return Brought(folder, record.files, origin.kind, lent=False)


def _with_tokenizer(origin: Origin, brought: Brought, hidden: Path, hub: Hub) -> Brought:
    """Bring a tokenizer to a checkpoint of OpenAI's that has none beside it."""
    if brought.kind is not Kind.OPENAI or TOKENIZER in brought.files:
        return brought
    (file,) = weights_of(brought.files, brought.kind)
    vocabulary = dimensions(brought.folder / file).n_vocab
    model = tokenizer_of(vocabulary)
    if model is None:
        raise BakeError(
            f"{origin.name}: no model of the catalogue has {vocabulary} tokens, as {file} has; put "
            f"its {TOKENIZER} beside it, into a folder of their own"
        )
    folder = download(model, hidden / TOKENIZER, hub=hub, progress=True)
    return replace(brought, tokenizer=folder / TOKENIZER)


def _drop(brought: Brought) -> None:
    if not brought.lent:
        shutil.rmtree(brought.folder)


def _record(origin: Origin, brought: Brought, made: Made, proof: Proof) -> Record:
    changed = _digest_of_weights(brought) if made.done else ""
    return Record(
        name=origin.name,
        repository=origin.repository,
        revision=origin.revision,
        licence=origin.licence,
        files=dict(made.files),
        compute_type=made.compute_type,
        original_type=made.original_type,
        made_from=origin.made_from or changed,
        folder_sha256=origin.place.sha256 if isinstance(origin.place, Folder) else "",
        mels=proof.mels,
        languages=proof.languages,
        alignment_heads=proof.has_alignment_heads,
        disk_bytes=sum(file.size_bytes for file in made.files.values()),
        memory_bytes={name: need_bytes(made.shape, name) for name in FORMATS},
    )


def _digest_of_weights(brought: Brought) -> str:
    """The sha256 of the weights' file; of several, that of their digests, by name."""
    digests = [brought.files[name].sha256 for name in weights_of(brought.files, brought.kind)]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def _refuse_another(origin: Origin, into: Path) -> None:
    """Keep a model that only shares the name from being replaced.

    Folders of one's own all count as one model: a newer state of a fine-tune replaces the older.
    """
    record = read(into)
    if record is not None and record.repository != origin.repository:
        raise FetchError(
            f"{into}: holds {record.repository or OWN_FOLDER}; move it away, or give another --name"
        )
