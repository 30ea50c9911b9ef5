"""The form field of the rewards: a number for each that there is."""

from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.safestring import SafeString


class WeightsWidget(forms.Widget):
    """Inputs named FIELD_REWARD. `known` maps each reward to what people call it and one line on it."""

    use_fieldset = True

    def __init__(self, known: dict[str, tuple[str, str]], bounds: dict[str, float]) -> None:
        super().__init__()
        self.known, self.bounds = known, bounds

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        weights = value if isinstance(value, dict) else {}
        rows = [
            {
                "name": f"{name}_{reward}",
                "reward": reward,
                "label": label,
                "about": about,
                "weight": weights.get(reward, ""),
            }
            for reward, (label, about) in self.known.items()
        ]
        return render_to_string("training/weights.html", {"rows": rows, "bounds": self.bounds})

    def value_from_datadict(self, data: Any, files: Any, name: str) -> dict[str, str]:
        return {reward: data.get(f"{name}_{reward}", "") for reward in self.known}

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return not any(f"{name}_{reward}" in data for reward in self.known)

    def id_for_label(self, id_: str) -> str:
        return ""


class WeightsField(forms.Field):
    """{"accuracy": 1.0, …}, without those that were left empty."""

    def __init__(self, known: dict[str, tuple[str, str]], minimum: float, maximum: float, **kwargs: Any) -> None:
        bounds = {"min": minimum, "max": maximum}
        super().__init__(required=False, widget=WeightsWidget(known, bounds), **kwargs)
        self.known = known
        self.weight = forms.FloatField(required=False, min_value=minimum, max_value=maximum)

    def clean(self, value: Any) -> dict[str, float]:
        weights, errors = {}, []
        for reward, text in value.items():
            try:
                weight = self.weight.clean(text)
            except forms.ValidationError as error:
                errors += [f"{self.known[reward][0]}: {message}" for message in error.messages]
            else:
                if weight is not None:
                    weights[reward] = weight
        if errors:
            raise forms.ValidationError(errors)
        return weights
