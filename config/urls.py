from django.urls import include, path

urlpatterns = [
    path("accounts/", include("allauth.account.urls")),
    path("", include("annotate.urls")),
    path("projects/<slug:slug>/", include("training.urls")),
]
