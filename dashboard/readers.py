"""What the pages read from. A page with questions of its own adds a Protocol in `modelpilot/` and a field here."""

from dataclasses import dataclass

from modelpilot.analytics import ChoiceReader, OverviewReader
from modelpilot.explore import ExploreReader
from modelpilot.job_runs import JobReader
from modelpilot.model_use import ModelsReader
from modelpilot.request_log import RequestLogReader
from modelpilot.router_use import RouterReader
from modelpilot.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Readers:
    """One reader per subject. Synchronous, called from several threads at once; all raise DependencyUnavailable."""

    overview: OverviewReader
    choices: ChoiceReader
    explore: ExploreReader
    requests: RequestLogReader
    models: ModelsReader
    routers: RouterReader
    jobs: JobReader
    workbench: Workbench
