"""The page of a room, the token for it, messages to it, and the hook that says who may read it."""

import json
from functools import partial
from hmac import compare_digest

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse, HttpResponseForbidden, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from chat.push import make_token, publish


def is_member(user_id, room):
    """Return whether a user may read and write in a room: the members of a room are a group of Django."""
    return User.objects.filter(pk=user_id, is_active=True, groups__name=room).exists()


@login_required
def room(request, name):
    url = settings.WSSERVER_URL.replace("http", "ws", 1)
    return render(request, "room.html", {"name": name, "url": f"{url}/ws?channel=room:{name}"})


@login_required
def token(request):
    return JsonResponse({"token": make_token(request.user)})


@require_POST
@login_required
def send(request, name):
    if not is_member(request.user.pk, name):
        return HttpResponseForbidden("members only")
    message = {"from": request.user.username, "text": request.POST["text"]}
    # Not before the database has committed: a subscriber may ask for what the message is about at once.
    transaction.on_commit(partial(publish, f"room:{name}", message))
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def subscribe_hook(request):
    if not compare_digest(request.GET.get("key", ""), settings.HOOK_KEY):
        return HttpResponseForbidden("wrong key")
    question = json.loads(request.body)
    kind, _, name = question["channel"].partition(":")
    if kind == "room" and is_member(question["user"], name):
        return JsonResponse({"result": {}})
    return JsonResponse({"error": {"code": 403, "message": "members only"}})
