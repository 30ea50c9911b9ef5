from django.contrib.auth.models import AbstractUser

# No sign-up form takes brackets, so nobody can be this.
IMPORTED = "(imported)"


class User(AbstractUser):
    """A person who signs in. What they may do is decided per project, by their Membership."""


def imported_user() -> User:
    """Whose the imported rankings are. Nobody signs in as them; ImportedRanking says who made a ranking."""
    user = User.objects.filter(username=IMPORTED).first()
    return user or User.objects.get_or_create(username=IMPORTED, defaults={"is_active": False, "password": "!"})[0]
