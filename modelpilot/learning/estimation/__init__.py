"""What each model is expected to deliver, cost and take for one request, and how sure that is. Pure numpy."""

from modelpilot.learning.estimation.facts import Prediction, RequestFacts, TrainingRows
from modelpilot.learning.estimation.fit import Fit, FitReport, fit
from modelpilot.learning.estimation.fitted import FittedPredictor
from modelpilot.learning.estimation.learner import REPEAT_CAP, Learner, Outcome, Outlook, Outlooks
from modelpilot.learning.estimation.predict import predict, predict_all

__all__ = [
    "REPEAT_CAP",
    "Fit",
    "FitReport",
    "FittedPredictor",
    "Learner",
    "Outcome",
    "Outlook",
    "Outlooks",
    "Prediction",
    "RequestFacts",
    "TrainingRows",
    "fit",
    "predict",
    "predict_all",
]
