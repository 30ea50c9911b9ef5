"""One's own tokens for scripts."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import SignedInRequest
from annotate.forms.tokens import TokenForm
from annotate.services.tokens import create_token, revoke_token


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def tokens(request: SignedInRequest) -> HttpResponse:
    """The list; POST makes one and answers with the list, the new token on it: it is shown this once."""
    form = TokenForm(request.user, request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        context["made"], context["token"] = create_token(user=request.user, **form.cleaned_data)
        context["form"] = TokenForm(request.user)
    context["tokens"] = request.user.api_tokens.select_related("project").order_by("-id")
    return render(request, "annotate/tokens.html", context, status=422 if form.errors else 200)


@require_POST
@login_required
def token_revoke(request: SignedInRequest, pk: int) -> HttpResponse:
    revoke_token(token=get_object_or_404(request.user.api_tokens, pk=pk))
    messages.success(request, _("The token does not work any more."))
    return redirect("tokens")
