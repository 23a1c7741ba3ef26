"""The URLs of the project."""

from django.contrib.auth.views import LoginView
from django.urls import path

from chat import views

urlpatterns = [
    path("accounts/login/", LoginView.as_view(template_name="login.html")),
    path("room/<slug:name>/", views.room),
    path("room/<slug:name>/send/", views.send),
    path("token/", views.token),
    path("hooks/subscribe/", views.subscribe_hook),
]
