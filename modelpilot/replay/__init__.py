"""What-if: logged decisions scored again under other settings, with honest intervals. Pure arithmetic over arrays."""

from modelpilot.replay.frame import LoggedRequest
from modelpilot.replay.newcomers import ModelHistory
from modelpilot.replay.policy import Proposal
from modelpilot.replay.report import replay

__all__ = ["LoggedRequest", "ModelHistory", "Proposal", "replay"]
