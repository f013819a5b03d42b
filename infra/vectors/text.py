"""Prepares text for an embedder."""

_HEAD_CHARS = 4_000
_TAIL_CHARS = 4_000


def embeddable(text: str) -> str:
    """`text` without what tokenizers and JSON encoders choke on, and at most 8,000 characters of it.

    Of longer texts the first and the last 4,000 characters stay: the beginning has the instructions and the end the
    question, and the time is bounded (some 4 ms with wordllama). NUL becomes a space, a lone surrogate "?".
    """
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        text = f"{text[:_HEAD_CHARS]} {text[-_TAIL_CHARS:]}"
    return text.replace("\x00", " ").encode("utf-8", "replace").decode()
