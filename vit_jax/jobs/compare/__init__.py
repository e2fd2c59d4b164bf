"""Jobs that run other jobs and compare their results."""
