"""Numbers as the reader's language writes them."""

from django.utils.formats import get_format, number_format


def grouped(value: int) -> str:
    """12345 → “12,345”."""
    return str(number_format(value, force_grouping=True))


def rounded(value: float, places: int) -> str:
    """0.66666 to 2 places → “0.67”; Django's number_format cuts the other digits off. A minus is a minus sign, and 0 has none."""
    return str(number_format(round(value, places) + 0.0, decimal_pos=places)).replace("-", "−")


def significant(value: float, digits: int = 4) -> str:
    """0.000123456 → “0.0001235”."""
    return f"{value:.{digits}g}".replace(".", str(get_format("DECIMAL_SEPARATOR")))
