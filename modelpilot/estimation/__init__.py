"""What each model is expected to deliver, cost and take for one request, and how sure that is. Pure numpy."""

from modelpilot.estimation.combine import predict_all
from modelpilot.estimation.fit import Fit, FitReport, fit
from modelpilot.estimation.fitted import FittedPredictor
from modelpilot.estimation.prediction import Prediction, RequestFacts
from modelpilot.estimation.rows import TrainingRows

__all__ = [
    "Fit",
    "FitReport",
    "FittedPredictor",
    "Prediction",
    "RequestFacts",
    "TrainingRows",
    "fit",
    "predict_all",
]
