"""Accounts are made by an administrator; nobody signs up by themselves."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class ClosedSignupAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth publishes no types
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False
