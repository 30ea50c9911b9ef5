from django.urls import include, path
from django.views.i18n import set_language

from config.api import api
from config.health import healthz, readyz

handler400 = "config.errors.bad_request"
handler500 = "config.errors.server_error"

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("api/v1/", api.urls),
    path("language/", set_language, name="set_language"),
    path("accounts/", include("allauth.account.urls")),
    path("", include("annotate.urls")),
    path("projects/<slug:slug>/", include("training.urls")),
]
