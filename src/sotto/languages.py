"""The languages Whisper knows: code -> English name, and how each is written.

Invariant: the codes equal those of the tokenizer; a test holds the two against each other.
"""

from __future__ import annotations

import difflib

LANGUAGES = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic", "as": "assamese", "az": "azerbaijani",
    "ba": "bashkir", "be": "belarusian", "bg": "bulgarian", "bn": "bengali", "bo": "tibetan",
    "br": "breton", "bs": "bosnian", "ca": "catalan", "cs": "czech", "cy": "welsh",
    "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fo": "faroese",
    "fr": "french", "gl": "galician", "gu": "gujarati", "ha": "hausa", "haw": "hawaiian",
    "he": "hebrew", "hi": "hindi", "hr": "croatian", "ht": "haitian creole", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "is": "icelandic", "it": "italian", "ja": "japanese",
    "jw": "javanese", "ka": "georgian", "kk": "kazakh", "km": "khmer", "kn": "kannada",
    "ko": "korean", "la": "latin", "lb": "luxembourgish", "ln": "lingala", "lo": "lao",
    "lt": "lithuanian", "lv": "latvian", "mg": "malagasy", "mi": "maori", "mk": "macedonian",
    "ml": "malayalam", "mn": "mongolian", "mr": "marathi", "ms": "malay", "mt": "maltese",
    "my": "burmese", "ne": "nepali", "nl": "dutch", "nn": "nynorsk", "no": "norwegian",
    "oc": "occitan", "pa": "punjabi", "pl": "polish", "ps": "pashto", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sa": "sanskrit", "sd": "sindhi", "si": "sinhala",
    "sk": "slovak", "sl": "slovenian", "sn": "shona", "so": "somali", "sq": "albanian",
    "sr": "serbian", "su": "sundanese", "sv": "swedish", "sw": "swahili", "ta": "tamil",
    "te": "telugu", "tg": "tajik", "th": "thai", "tk": "turkmen", "tl": "tagalog",
    "tr": "turkish", "tt": "tatar", "uk": "ukrainian", "ur": "urdu", "uz": "uzbek",
    "vi": "vietnamese", "yi": "yiddish", "yo": "yoruba", "yue": "cantonese", "zh": "chinese",
}  # fmt: skip

OTHER_NAMES = {
    "american": "en", "bahasa indonesia": "id", "british": "en", "castilian": "es", "čeština": "cs",
    "dansk": "da", "deutsch": "de", "español": "es", "farsi": "fa", "filipino": "tl",
    "flemish": "nl", "français": "fr", "italiano": "it", "magyar": "hu", "mandarin": "zh",
    "nederlands": "nl", "norsk": "no", "polski": "pl", "português": "pt", "română": "ro",
    "suomi": "fi", "svenska": "sv", "tiếng việt": "vi", "turkce": "tr", "türkçe": "tr",
    "ελληνικά": "el", "русский": "ru", "українська": "uk", "עברית": "he", "العربية": "ar",
    "हिन्दी": "hi", "ไทย": "th", "中文": "zh", "日本語": "ja", "한국어": "ko",
}  # fmt: skip
"""What else languages are called, most of them by those who speak them; only to suggest a code."""

WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "bo"})
"""Languages whose words are split at every character: those of which faster_whisper.tokenizer says
so, and Khmer and Tibetan, of which it would make one word a window."""

LONGEST = 60
"""No name of a language is longer."""
_CODES = {**OTHER_NAMES, **{name: code for code, name in LANGUAGES.items()}}


def suggest(wrong: str) -> str | None:
    """The code that `wrong` most likely means (`english`, `en-US`, `EN`), or None."""
    word = wrong.strip()[:LONGEST].lower()
    head = word.replace("_", "-").split("-")[0]
    if head in LANGUAGES:
        return head
    names = difflib.get_close_matches(word, _CODES, n=1, cutoff=0.75)
    return _CODES[names[0]] if names else None
