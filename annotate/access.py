"""Who may do what. Every project page is reached through the membership of the person who asks."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404

from .models import Membership, User

View = TypeVar("View", bound=Callable[..., HttpResponseBase])
Role = Membership.Role


class ProjectRequest(HttpRequest):
    """What a view behind `member_required` is given."""

    user: User
    membership: Membership


def member_required(*roles: Membership.Role) -> Callable[[View], Callable[..., HttpResponseBase]]:
    """Give the view `request.membership` (its project comes along) for the `slug` in the URL.

    Without a membership the project does not exist (404); with another role than `roles` it is forbidden (403). No roles
    means any member.
    """

    def decorate(view: View) -> Callable[..., HttpResponseBase]:
        @login_required
        @wraps(view)
        def wrapped(request: Any, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            membership = get_object_or_404(
                Membership.objects.select_related("project"), project__slug=slug, user_id=request.user.pk
            )
            if roles and membership.role not in roles:
                raise PermissionDenied
            membership.user = request.user
            request.membership = membership
            return view(request, *args, **kwargs)

        return wrapped

    return decorate
