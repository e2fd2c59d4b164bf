"""The page of a run, `report.html`: what it shows and how it is drawn."""
