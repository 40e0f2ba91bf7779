"""A Hugging Face Whisper checkpoint in, a folder in CTranslate2's format out.

The only importer of transformers, and only when something is converted. Invariant: the folder is
whole or not there, none of its weights is made up, and no code of the checkpoint is run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from builder.alignment import tell
from builder.checkpoint import Checkpoint, read, translated
from builder.checkpoint import ConvertError as ConvertError
from tqdm import tqdm

from sotto.models.catalogue import CONFIG, PREPROCESSOR, TOKENIZER, WEIGHTS

OLDER_TOKENIZER = ("vocab.json", "merges.txt")
START, END, TRANSLATE, SPACE = "<|startoftranscript|>", "<|endoftext|>", "<|translate|>", "Ġ"


def convert(checkpoint: Path, into: Path, *, progress: bool) -> None:
    """Convert the checkpoint in the folder `checkpoint` to the folder `into`.

    The weights keep their number format. Needs the memory of two copies of the model. `into` must
    be new or empty. Raises ConvertError, which names the file that is wrong, and OSError.
    """
    known = read(checkpoint)
    _require_libraries()
    staging = into.with_name(f".{into.name}.converting")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        with tqdm(total=3, desc=f"{checkpoint.name}: converting", disable=not progress) as bar:
            tokenizer = _write_tokenizer(known, staging)
            _write_features(known, staging)
            bar.update()
            model = _load_weights(checkpoint, progress)
            bar.update()
            _write_model(model, tokenizer, staging)
            bar.update()
        _write_config(known, tokenizer, staging)
        staging.rename(into)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    tell(checkpoint.name, known.alignment, known.decoder)


def _require_libraries() -> None:
    try:
        import tokenizers  # noqa: F401
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise ConvertError(
            f"a conversion needs builder/requirements.txt, and {error.name} is not installed"
        ) from error
    transformers.logging.set_verbosity_error()


def _write_tokenizer(known: Checkpoint, staging: Path) -> Any:
    """Bring the tokenizer, or build it from the older files that say the same."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    own = known.folder / TOKENIZER
    older = [known.folder / name for name in OLDER_TOKENIZER]
    if not own.exists() and not all(path.exists() for path in older):
        raise ConvertError(
            f"{known.folder.name}: has neither {TOKENIZER} nor {' and '.join(OLDER_TOKENIZER)}"
        )
    with translated(f"{known.folder.name}: the tokenizer"):
        if own.exists():
            shutil.copyfile(own, staging / TOKENIZER)
        else:
            built = AutoTokenizer.from_pretrained(str(known.folder), local_files_only=True)
            built.backend_tokenizer.save(str(staging / TOKENIZER))
        tokenizer = Tokenizer.from_file(str(staging / TOKENIZER))
    if _has_gaps(tokenizer, staging / TOKENIZER):
        raise ConvertError(f"{TOKENIZER}: the ids of its tokens have gaps")
    return tokenizer


def _has_gaps(tokenizer: Any, path: Path) -> bool:
    """Is there an id without a token? On loading, the tokens behind a gap move up into it."""
    ids = sorted(tokenizer.get_vocab().values())
    added = json.loads(path.read_bytes()).get("added_tokens", ())
    moved = any(tokenizer.token_to_id(token["content"]) != token["id"] for token in added)
    return moved or ids != list(range(len(ids)))


def _write_features(known: Checkpoint, staging: Path) -> None:
    from transformers import WhisperFeatureExtractor

    own = known.folder / PREPROCESSOR
    if own.exists():
        shutil.copyfile(own, staging / PREPROCESSOR)
    else:
        WhisperFeatureExtractor(feature_size=known.mels).save_pretrained(str(staging))


def _load_weights(checkpoint: Path, progress: bool) -> Any:
    from transformers import WhisperForConditionalGeneration
    from transformers.utils.logging import disable_progress_bar

    if not progress:
        disable_progress_bar()
    with translated(f"{checkpoint.name}: the weights"):
        model, report = WhisperForConditionalGeneration.from_pretrained(
            str(checkpoint), dtype="auto", local_files_only=True, output_loading_info=True
        )
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers fills in random numbers for what it does not find.
        raise ConvertError(
            f"{checkpoint.name}: the weights lack {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        )
    return model


def _write_model(model: Any, tokenizer: Any, staging: Path) -> None:
    """Write model.bin and the vocabulary; CTranslate2's loader asks a tokenizer no more than ours
    can answer."""
    import torch
    from ctranslate2.converters.transformers import WhisperLoader

    with translated(WEIGHTS), torch.no_grad():
        spec = WhisperLoader()(model, tokenizer)
        spec.validate()
        spec.optimize()
        spec.save(str(staging))


def _write_config(known: Checkpoint, tokenizer: Any, staging: Path) -> None:
    """Write what CTranslate2 cannot read from the weights.

    Whisper's vocabulary has the languages between the start of a transcript and the task.
    """
    start, end, translate, space = map(tokenizer.token_to_id, (START, END, TRANSLATE, SPACE))
    if None in (start, end, translate, space) or not start < translate:
        raise ConvertError(f"{TOKENIZER}: is not Whisper's: it lacks {START}, {END} or {TRANSLATE}")
    at_start = known.suppressed_at_start
    config = {
        "alignment_heads": known.alignment.heads,
        "lang_ids": list(range(start + 1, translate)),
        "suppress_ids": known.suppressed or (),
        "suppress_ids_begin": (space, end) if at_start is None else at_start,
    }
    (staging / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
