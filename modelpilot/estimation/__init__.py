"""What each model is expected to deliver, cost and take for one request, and how sure that is. Pure numpy."""

from modelpilot.estimation.combine import predict, predict_all
from modelpilot.estimation.fit import Fit, FitReport, fit
from modelpilot.estimation.fitted import FittedPredictor
from modelpilot.estimation.heads import REPEAT_CAP
from modelpilot.estimation.prediction import Prediction, RequestFacts
from modelpilot.estimation.rows import TrainingRows

__all__ = [
    "REPEAT_CAP",
    "Fit",
    "FitReport",
    "FittedPredictor",
    "Prediction",
    "RequestFacts",
    "TrainingRows",
    "fit",
    "predict",
    "predict_all",
]
