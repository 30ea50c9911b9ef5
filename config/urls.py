from django.urls import include, path

from config.health import healthz, readyz

handler400 = "config.errors.bad_request"
handler500 = "config.errors.server_error"

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("accounts/", include("allauth.account.urls")),
    path("", include("annotate.urls")),
    path("projects/<slug:slug>/", include("training.urls")),
]
