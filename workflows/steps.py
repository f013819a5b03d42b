"""Steps whose failure does not end their workflow at once."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

Told = TypeVar("Told")
Report = TypeVar("Report")


async def try_step(
    step: Callable[[Any, Told], Coroutine[Any, Any, Report]],
    told: Told,
    config: workflow.ActivityConfig,
    note_failure: Callable[[str], None],
) -> Report | None:
    """What the activity reports; None where it failed, after its name was noted. Raises ActivityError where it was
    canceled, since its workflow is then."""
    try:
        return await workflow.execute_activity_method(step, told, **config)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        note_failure(error.activity_type)
        return None
