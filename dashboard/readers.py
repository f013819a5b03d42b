"""What the pages read from. A page with questions of its own adds a Protocol in `modelpilot/` and a field here."""

from dataclasses import dataclass

from modelpilot.metrics.explore import ExploreReader
from modelpilot.metrics.jobs import JobReader
from modelpilot.metrics.overview import ChoiceReader, OverviewReader
from modelpilot.metrics.requests import RequestLogReader
from modelpilot.metrics.use import ModelsReader, RouterReader
from modelpilot.metrics.workbench import Workbench


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
