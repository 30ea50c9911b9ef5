from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import ProjectRequest, member_required
from annotate.text import render_markdown
from annotate.views.practice import describe_examples


@require_GET
@member_required()
def guidelines(request: ProjectRequest) -> HttpResponse:
    project = request.membership.project
    html = render_markdown(project.guidelines) if project.guidelines.strip() else ""
    template = "annotate/guidelines.html#guidelines" if request.htmx else "annotate/guidelines.html"
    context = {
        "project": project,
        "membership": request.membership,
        "html": html,
        "examples": describe_examples(request.membership),
    }
    return render(request, template, context)
