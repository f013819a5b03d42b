"""What-if: logged decisions scored again under other settings, with honest intervals. Pure arithmetic over arrays."""

from modelpilot.learning.replay.newcomers import ModelHistory
from modelpilot.learning.replay.policy import Proposal
from modelpilot.learning.replay.report import replay
from modelpilot.learning.replay.table import LoggedRequest

__all__ = ["LoggedRequest", "ModelHistory", "Proposal", "replay"]
