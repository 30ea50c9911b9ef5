"""`{% made_from version %}`: what came of a dataset version."""

from typing import Any

from django import template
from django.template import Context

from annotate.models import DatasetVersion
from training.services.lineage import trained_on

register = template.Library()


@register.inclusion_tag("training/made_from.html", takes_context=True)
def made_from(context: Context, version: DatasetVersion) -> dict[str, Any]:
    return {"version": version, "trained": trained_on(version), "membership": context["request"].membership}
