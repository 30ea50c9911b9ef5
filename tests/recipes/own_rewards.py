"""Rewards of one's own, as a user of Podium would write them."""


def shortness(completions):
    """Longer than ten characters is bad, whatever it says; nothing is said of an empty answer."""
    return [-max(0, len(one.answer) - 10) / 100 if one.answer else None for one in completions]


def forgetful(completions):
    return [1.0]


def dividing(completions):
    return [1 / 0 for _ in completions]


def unsure(completions):
    return [float("nan") for _ in completions]


NOTHING_TO_CALL = 3
