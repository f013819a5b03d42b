"""One family of coded errors. Nothing here knows HTTP: `api/http/errors.py` maps each class to a status."""

from collections.abc import Mapping
from typing import Any, Self


class ModelPilotError(Exception):
    """Base of every error that a user may see.

    `code` is stable and machine-readable, the class's unless a provider has a better one; `param` names the offending
    field or header, in the user's spelling; `retry_after_s` says when a repeat may help (None: unknown or never);
    `details` is extra JSON for the body.
    """

    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.param = param
        self.retry_after_s = retry_after_s
        self.details = dict(details or {})


class MalformedBody(ModelPilotError):
    """The body is not JSON at all."""

    code = "malformed_body"


class InvalidRequest(ModelPilotError):
    """The body or a header is well-formed but not acceptable; `param` names the field."""

    code = "invalid_request"

    @classmethod
    def at(cls, param: str, reason: str) -> Self:
        """The error of one field or header, whose message begins with its name."""
        return cls(f"{param}: {reason}", param=param)


class AuthenticationFailed(ModelPilotError):
    """The API key is missing, malformed, unknown, revoked or expired (deliberately not told apart)."""

    code = "invalid_api_key"


class PermissionDenied(ModelPilotError):
    """The API key is valid but lacks a scope or may not use this router."""

    code = "permission_denied"


class NotFound(ModelPilotError):
    """The thing does not exist, or belongs to another tenant (deliberately not told apart)."""

    code = "not_found"


class Conflict(ModelPilotError):
    """The thing exists already, or is used by another."""

    code = "conflict"


class PayloadTooLarge(ModelPilotError):
    """The body is over the configured limit."""

    code = "payload_too_large"


class IdempotencyMismatch(ModelPilotError):
    """The Idempotency-Key was used before with another body."""

    code = "idempotency_key_reused"


class NoCandidate(ModelPilotError):
    """No model can serve the request; `details["candidates"]` says why for each."""

    code = "no_candidate"


class ContextLengthExceeded(NoCandidate):
    """The prompt is too long for every model that could serve the request; a shorter one would be served."""

    code = "context_length_exceeded"


class ProviderFailed(ModelPilotError):
    """The provider failed after all attempts; `details["attempts"]` lists them."""

    code = "provider_failed"


class ProviderTimedOut(ProviderFailed):
    """The last attempt, or the whole request, ran into a timeout."""

    code = "provider_timeout"


class ProviderRejected(ProviderFailed):
    """What the provider did is nothing that a retry mends."""

    code = "provider_rejected"


class RequestRefused(ProviderRejected):
    """The provider refused the request itself (its own 400, content filter ...), and no other model took it; message,
    code and param are the provider's."""


class ModelRefused(ProviderRejected):
    """The provider has no such model for our key there."""

    code = "model_not_found"


class StreamDiverged(ProviderFailed):
    """A stream broke off, and the repeated call did not repeat what the client already had."""

    code = "stream_diverged"


class RequestCanceled(ModelPilotError):
    """The client went away before the answer was complete."""

    code = "request_canceled"


class DependencyUnavailable(ModelPilotError):
    """A service that this request needs (Temporal, Postgres) is down; nothing was spent."""

    code = "dependency_unavailable"


class Overloaded(ModelPilotError):
    """This process holds as many requests as it may; nothing was spent."""

    code = "overloaded"


class RateLimited(ModelPilotError):
    """The caller is over a limit of its own (requests, tokens or budget); `retry_after_s` says when that ends."""

    code = "rate_limit_exceeded"


class EmbedderMismatch(DependencyUnavailable):
    """Stored vectors and new ones come from different embedders, so their similarities would be garbage."""

    code = "embedder_mismatch"
