"""What a model cannot do for a request: what is refused, and what is only said to be idle.

Invariant: nothing is decoded here; a model is asked for what is constant and for its tokens.
"""

from __future__ import annotations

from sotto.engine.base import PROMPT, Engine
from sotto.errors import RequestError
from sotto.models.catalogue import known
from sotto.request import Request


def refuse(request: Request, engine: Engine) -> None:
    """Raise RequestError for a language or a token that the model does not have.

    CTranslate2 would take either: without a language it guesses, and a token beyond the last one is
    written to beyond the end of its memory.
    """
    language = request.options.language
    if language is not None and not engine.knows(language):
        raise RequestError("language", f"model '{engine.model}' does not know '{language}'")
    for token in request.suppress_tokens:
        if token >= engine.vocabulary:
            raise RequestError(
                "suppress_tokens",
                f"{token}: the tokens of model '{engine.model}' are 0 to {engine.vocabulary - 1}",
            )


def without_effect(request: Request, engine: Engine) -> list[str]:
    """A warning for each option that does nothing with this model."""
    return [
        *_crowded_out(request, engine),
        *_english_only(request, engine),
        *_untaught(request, engine),
    ]


def _crowded_out(request: Request, engine: Engine) -> list[str]:
    """What the hotwords leave no room for in a prompt; for one, the rest of themselves."""
    hotwords = request.options.hotwords or ""
    if not hotwords.strip() or len(engine.tokenize(hotwords)) < PROMPT:
        return []
    warnings = [f"hotwords: they fill the prompt; of more than {PROMPT} tokens the last ones act"]
    given = {
        "initial_prompt": bool(request.options.initial_prompt),
        "condition_on_previous_text": request.options.condition_on_previous_text,
    }
    warnings += [f"{name}: the hotwords leave no room for it" for name, is_ in given.items() if is_]
    return warnings


def _english_only(request: Request, engine: Engine) -> list[str]:
    """What a model that knows only English cannot do for this request."""
    if engine.multilingual:
        return []
    model, warnings = engine.model, []
    if request.options.language not in (None, "en"):
        warnings.append(f"language: model '{model}' knows only English")
    if request.options.multilingual:
        warnings.append(f"multilingual: model '{model}' knows only English")
    if request.options.translate:
        warnings.append(f"translate: model '{model}' cannot; the translation is the transcription")
    return warnings


def _untaught(request: Request, engine: Engine) -> list[str]:
    """What a model may do otherwise than it is asked to, since it was not trained for it."""
    listed = known(engine.model)
    if listed is None or listed.translates or not request.options.translate:
        return []
    return [f"translate: model '{engine.model}' was not trained for it; expect the language spoken"]
