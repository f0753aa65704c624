"""What a sweep leaves beside its runs for those who watch it."""

PLAN = "sweep.json"
