"""The page of a run, `report.html`: what it holds and how it is drawn."""
