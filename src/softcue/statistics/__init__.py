"""Numbers in, numbers out: scores under resampled rows, intervals, tests, power. Knows no records."""
