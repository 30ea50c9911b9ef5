"""The statistics of an evaluation: pure functions of numbers, which know nothing of models or files."""
