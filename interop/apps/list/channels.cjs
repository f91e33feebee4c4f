"use strict";
const { HOST } = require("../lib/app.cjs");
const chat = require("../lib/chat.cjs");

// The chat of the tutorial in one file: groups in memory, and the check of the Origin by ALLOWED_HOSTS.
const SERVER = `
import sys
from django.conf import settings

settings.configure(
    SECRET_KEY="interop",
    ALLOWED_HOSTS=["${HOST}"],
    ROOT_URLCONF="site",
    INSTALLED_APPS=["daphne", "channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
import django
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

class Chat(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard("room", self.channel_name)

    async def receive(self, text_data):
        await self.channel_layer.group_send("room", {"type": "said", "text": text_data})

    async def said(self, event):
        await self.send(text_data=event["text"])

def page(request):
    return HttpResponse(open("chat.html").read())

class urls:
    urlpatterns = [path("", page)]

sys.modules["site"] = urls
application = ProtocolTypeRouter({
    "http": get_asgi_application(),
    "websocket": AllowedHostsOriginValidator(URLRouter([path("ws", Chat.as_asgi())])),
})

from daphne.server import Server
Server(application, endpoints=[f"tcp:port={sys.argv[1]}:interface=127.0.0.1"]).run()
`;

module.exports = {
  ...chat,
  title: "Django Channels on Daphne",
  settings: "`ALLOWED_HOSTS` with the public host",
  pip: ["channels==4.3.2", "daphne==4.2.3", "django==5.2.8"],
  start: (app) => chat.serve(app, "server.py", SERVER),
};
