"""Refitting the predictors: every half hour for routers with new outcomes, and on demand for one router or owner."""

from collections import Counter
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.jobs.refit import RefitActivities
    from modelpilot import names
    from modelpilot.learning.refit import RefitInput, RefitReport, RefitResult
    from workflows import policies
    from workflows.policies import try_step

# Once more, since the next schedule is half an hour away; a fit that fails twice needs a person.
FIT_RETRIES = RetryPolicy(maximum_attempts=2, initial_interval=timedelta(seconds=5))
FIT = workflow.ActivityConfig(
    # 20,000 rows take seconds to read and up to minutes to fit on a busy machine.
    start_to_close_timeout=timedelta(minutes=15),
    # A heartbeat every 5 s; a page of rows may take 30 s.
    heartbeat_timeout=timedelta(seconds=60),
    retry_policy=FIT_RETRIES,
)
LIST_RETRIES = RetryPolicy(maximum_attempts=3)


@workflow.defn(name=names.REFIT_WORKFLOW)
class RefitWorkflow:
    """list_refits, then refit_router for one after the other: a fit uses all of a core."""

    @workflow.run
    async def run(self, work: RefitInput) -> RefitResult:
        """Fit what is due; fails at the end where a router could not be fitted, without keeping others from it."""
        due = await workflow.execute_activity_method(
            RefitActivities.list_refits,
            work,
            start_to_close_timeout=policies.STORE_TIMEOUT,
            retry_policy=LIST_RETRIES,
        )
        missed: list[str] = []
        reports = [
            await try_step(RefitActivities.refit_router, scope, {**FIT, "summary": scope.router_id}, missed.append)
            for scope in due.routers
        ]
        failed = work.failed + len(missed)
        if due.more:
            work = RefitInput(work.user_id, work.router_id, after=due.routers[-1], failed=failed)
            workflow.continue_as_new(work)
        if failed:
            raise ApplicationError(f"{failed} routers could not be fitted", type="RefitIncomplete")
        return _result([report for report in reports if report is not None])


def _result(reports: list[RefitReport]) -> RefitResult:
    counted = Counter(report.status for report in reports)
    report = reports[0] if len(reports) == 1 else None
    return RefitResult(counted["accepted"], counted["refused"], counted["skipped"], report)
