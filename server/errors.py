"""Every error that an API caller can get, as one tree; each knows its HTTP status.

ApiError                  400  bad_request
├── Invalid               422  invalid_value            a field's value; `param` names the field
├── BadBody               400  invalid_body             not JSON, too deep, not UTF-8
├── Unauthenticated       401  invalid_api_key
├── Forbidden             403  insufficient_scope
├── NotFound              404  not_found
├── WrongState            400  wrong_state              cannot be done to it now (never 409: SDKs retry that)
├── KeyReused             422  idempotency_key_reused
├── TooSlow               408  request_timeout
├── TooLarge              413  body_too_large
├── TooMany               429  rate_limited | overloaded | too_many_jobs    with Retry-After
├── Unavailable           503  engine_unavailable | no_student | shutting_down
└── TimedOut              504  generation_timeout

ServerError is for what goes wrong outside a request: a setting, a database, an engine that cannot be started. The
message of either says what is wrong, shows the value seen, and says what to do.
"""

from student.errors import RltError


class ServerError(RltError):
    """The service cannot start or go on; one line with the remedy."""


class EngineUnavailable(ServerError):
    """The engine does not answer; the same request may succeed later."""


class DatabaseUnavailable(ServerError):
    """The database does not answer, or lets nobody in; the same work may succeed later."""


class StorageUnavailable(ServerError):
    """The storage does not answer, or is full; the same work may succeed later."""


class EngineRefused(ServerError):
    """The engine answered that it will not carry this request out, and would again."""


class ApiError(RltError):
    """What a caller is told. `code` is stable and documented, `param` is the dotted name of the field at fault."""

    status = 400
    type = "invalid_request_error"
    code = "bad_request"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or type(self).code
        self.retry_after = retry_after


class Invalid(ApiError):
    """A field has a value that cannot be used."""

    status = 422
    code = "invalid_value"


class BadBody(ApiError):
    """The body cannot be read at all."""

    code = "invalid_body"


class Unauthenticated(ApiError):
    """No key, or one that is not known."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(ApiError):
    """The key may not do this."""

    status = 403
    type = "permission_error"
    code = "insufficient_scope"


class NotFound(ApiError):
    """There is no such thing, or no longer."""

    status = 404
    code = "not_found"


class WrongState(ApiError):
    """It is there, but what is asked cannot be done to it now."""

    code = "wrong_state"


class KeyReused(ApiError):
    """An Idempotency-Key that was used with another body."""

    status = 422
    code = "idempotency_key_reused"


class TooSlow(ApiError):
    """The body did not arrive in time."""

    status = 408
    code = "request_timeout"


class TooLarge(ApiError):
    """The body is longer than the service takes."""

    status = 413
    code = "body_too_large"


class TooMany(ApiError):
    """More than the service takes on now; `retry_after` seconds say when to come again."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"


class Unavailable(ApiError):
    """A part that the request needs is not there now."""

    status = 503
    type = "server_error"
    code = "engine_unavailable"


class TimedOut(ApiError):
    """The request took longer than the service allows."""

    status = 504
    type = "server_error"
    code = "generation_timeout"
