"""What an evaluation is made of: pure functions of numbers (intervals, preference, winning, spending), its stages, its report."""
