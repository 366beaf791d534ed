"""One self-contained HTML page about an evaluation, a training run, or both."""

from hrnet.vis.report.page import REPORT, Evaluation, format_metric, write_report, write_run_report
from hrnet.vis.report.run import is_run, read_run

__all__ = ["REPORT", "Evaluation", "format_metric", "is_run", "read_run", "write_report", "write_run_report"]
