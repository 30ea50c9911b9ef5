"""Links by which people join a project, and the account that somebody makes on the way in."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.forms import UserCreationForm
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Membership, User

if TYPE_CHECKING:
    UserForm = UserCreationForm[User]
else:
    UserForm = UserCreationForm

DAYS_MAX, USES_MAX = 30, 1000


class InvitationForm(forms.Form):
    """`cleaned_data` is what `create_invitation` takes."""

    role = forms.ChoiceField(choices=Membership.Role.choices, label=gettext_lazy("Role"))
    days = forms.IntegerField(
        min_value=1,
        max_value=DAYS_MAX,
        initial=7,
        label=gettext_lazy("Days that it works"),
        help_text=gettext_lazy("1 to 30."),
    )
    max_uses = forms.IntegerField(
        min_value=1, max_value=USES_MAX, initial=1, label=gettext_lazy("People who may join by it")
    )
    note = forms.CharField(
        required=False,
        max_length=120,
        label=gettext_lazy("Note"),
        help_text=gettext_lazy("Whom it is for. Only admins see it."),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("role") == Membership.Role.ADMIN and cleaned.get("max_uses", 1) > 1:
            self.add_error("max_uses", _("A link that makes somebody an admin works for one person."))
        return cleaned


class SignUpForm(UserForm):
    """An account for somebody who came by a link."""

    email = forms.EmailField(
        required=False,
        max_length=254,
        label=gettext_lazy("E-mail address (optional)"),
        help_text=gettext_lazy("A forgotten password can be set anew only with one."),
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )

    class Meta:
        model = User
        fields = ("username", "email")
        labels = {"username": gettext_lazy("User name")}
        help_texts = {"username": gettext_lazy("Letters, digits and . + - _")}

    def clean_username(self) -> str:
        username = super().clean_username() or ""
        if "@" in username:
            # People are found by name or address; a name that looks like another's address would stand for them.
            raise ValidationError(_("A user name has no @."))
        return username

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"])
        if email and User.objects.filter(email__iexact=email).exists():
            raise ValidationError(_("An account has this address already. Sign in with it, or leave the address out."))
        return email
