"""Accounts are made by an administrator; nobody signs up by themselves."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest
from django.utils.translation import gettext_noop

# Words of allauth that people meet here. Named, they are in our catalogue, which is asked before allauth's own:
# its German is on first-name terms with everybody, ours is not.
WORDS_OF_ALLAUTH = (
    gettext_noop("Be patient, you are sending too many requests."),
    gettext_noop("In case you forgot, your username is %(username)s."),
    gettext_noop("Please type your current password."),
    gettext_noop("Thank you for using %(site_name)s!\n%(site_domain)s"),
    gettext_noop("Too many failed login attempts. Try again later."),
    gettext_noop("You have signed out."),
    gettext_noop("You must type the same password each time."),
    gettext_noop(
        "You're receiving this email because you or someone else has requested a password reset for your user account.\n"
        "It can be safely ignored if you did not request a password reset. Click the link below to reset your password."
    ),
)


class ClosedSignupAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth publishes no types
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False
