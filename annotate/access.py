"""Who may do what. Every project page is reached through the membership of the person who asks."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django_htmx.middleware import HtmxDetails

from .models import Membership, User
from .services.assignments import NotAMember

View = TypeVar("View", bound=Callable[..., HttpResponseBase])
Role = Membership.Role


class SignedInRequest(HttpRequest):
    """What a view behind `login_required` is given."""

    user: User
    htmx: HtmxDetails


class ProjectRequest(SignedInRequest):
    """What a view behind `member_required` is given."""

    membership: Membership


def member_required(
    *roles: Membership.Role, scripted: bool = False
) -> Callable[[View], Callable[..., HttpResponseBase]]:
    """Give the view `request.membership` (its project comes along) for the `slug` in the URL.

    Without a membership the project does not exist (404); with another role than `roles` it is forbidden (403). No roles
    means any member. Whoever is not signed in is sent to sign in; a script's request (`scripted`, or any by htmx) gets 401
    and JSON instead, since a script cannot use a sign-in page.
    """

    def decorate(view: View) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def wrapped(request: Any, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _signed_out(request, scripted)
            membership = get_object_or_404(
                Membership.objects.present().select_related("project"), project__slug=slug, user_id=request.user.pk
            )
            if roles and membership.role not in roles:
                raise PermissionDenied
            membership.user = request.user
            request.membership = membership
            try:
                return view(request, *args, **kwargs)
            except NotAMember:
                raise Http404 from None

        return wrapped

    return decorate


def _signed_out(request: Any, scripted: bool) -> HttpResponseBase:
    if scripted or request.htmx:
        message = _("You are not signed in any more. Sign in in another tab, then go on here: nothing is lost.")
        return JsonResponse({"code": "signed_out", "message": message}, status=401)
    return redirect_to_login(request.get_full_path())
