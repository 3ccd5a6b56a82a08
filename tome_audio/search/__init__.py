"""Schedules fitted to a compute target on unlabelled audio: what to merge where, so that answers change least."""

from tome_audio.search.frontier import FitOptions, Fitted, fit_frontier, fit_schedule
from tome_audio.search.ledger import Ledger, LedgerError

__all__ = ["FitOptions", "Fitted", "Ledger", "LedgerError", "fit_frontier", "fit_schedule"]
