"""The one exception that ends a simulated call with an error answer."""


class SimError(Exception):
    """An error answer: an HTTP status, OpenAI's `code` and `param`, and the text a person reads."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


# Status → (OpenAI type, OpenAI code, Anthropic type, Gemini status). Source: the three providers' error pages.
_NAMES = {
    400: ("invalid_request_error", None, "invalid_request_error", "INVALID_ARGUMENT"),
    401: ("invalid_request_error", "invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
    403: ("invalid_request_error", "permission_denied", "permission_error", "PERMISSION_DENIED"),
    404: ("invalid_request_error", "model_not_found", "not_found_error", "NOT_FOUND"),
    408: ("timeout_error", None, "timeout_error", "DEADLINE_EXCEEDED"),
    413: ("invalid_request_error", None, "request_too_large", "INVALID_ARGUMENT"),
    429: ("requests", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"),
    503: ("server_error", "service_unavailable", "api_error", "UNAVAILABLE"),
    504: ("server_error", "timeout", "timeout_error", "DEADLINE_EXCEEDED"),
    529: ("server_error", "overloaded", "overloaded_error", "UNAVAILABLE"),
}
_SERVER = ("server_error", None, "api_error", "INTERNAL")


def names(status: int) -> tuple[str, str | None, str, str]:
    """Return what OpenAI (type and code), Anthropic (type) and Gemini (status) call an error with this HTTP status."""
    return _NAMES.get(status, _SERVER if status >= 500 else _NAMES[400])


_TEXTS = {
    403: "You do not have access to this model",
    404: "The requested model does not exist",
    429: "Rate limit reached for requests",
    500: "The server had an error while processing your request",
    503: "The engine is currently overloaded, please try again later",
    529: "Overloaded",
}


def status_error(status: int, api_key: str) -> SimError:
    """Return a provider's error for `status`; a 401 repeats the key, so that tests can see that nobody passes it on."""
    if status == 401:
        return SimError(401, f"Incorrect API key provided: {api_key}")
    return SimError(status, _TEXTS.get(status, f"Simulated error {status}"))


def context_error(dialect: str, tokens: int, window: int) -> SimError:
    """Return what a provider says to a prompt of `tokens` tokens when its model takes `window`."""
    tokens = max(tokens, window + 1)
    if dialect == "anthropic":
        return SimError(400, f"prompt is too long: {tokens} tokens > {window} maximum")
    if dialect == "gemini":
        message = f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({window})."
        return SimError(400, message)
    message = f"This model's maximum context length is {window} tokens. Your messages resulted in {tokens} tokens."
    return SimError(400, message, "context_length_exceeded", "messages")


def prefill_error() -> SimError:
    """Return what a provider says to a conversation that ends with its own words, where it has no prefill."""
    text = "This model does not support assistant message prefill. The conversation must end with a user message."
    return SimError(400, text, "invalid_prefill", "messages")


def filter_error(dialect: str) -> SimError:
    """Return what a provider says when its content filter refuses the prompt."""
    if dialect == "anthropic":
        return SimError(400, "Output blocked by content filtering policy")
    return SimError(400, "The prompt was rejected by the content filter", "content_filter", "prompt")
