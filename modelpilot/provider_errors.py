"""How a provider call can fail, classified once, by status and body, into what may be done about it."""

from enum import StrEnum


class Remedy(StrEnum):
    """What can help after a failed call."""

    RETRY_SAME = "retry_same"  # transient: the same model may answer in a moment; falling back helps as well
    FALL_BACK = "fall_back"  # this model will not answer this request now; another one may
    GIVE_UP = "give_up"  # the request itself is at fault: no other model will take it either


class ProviderError(Exception):
    """A failed provider call.

    `error_type` is one of: connection_error, timeout_connect, timeout_first_token, timeout_idle, timeout_total,
    stream_cut, malformed_response, rate_limited, server_error, overloaded, authentication, permission, not_found,
    context_length, content_filter, bad_request. `retry_after_s` is None where the provider gave no usable value.
    `unhealthy_key` says that the provider's key itself was refused.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        remedy: Remedy,
        *,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        unhealthy_key: bool = False,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.remedy = remedy
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.unhealthy_key = unhealthy_key
