"""The report of a run: one self-contained page, its plots, and the figures as CSV."""

from mlc.report.data import FunnelRow, Gate, Input, ReportData, TranslatorRow
from mlc.report.page import render

__all__ = ["FunnelRow", "Gate", "Input", "ReportData", "TranslatorRow", "render"]
