"""The Python clients of close_codes.cjs: close_codes.py websockets|paho-mqtt.

Reads addresses from standard input, starts a client for each, and prints the address once it is connected.
"""

import asyncio
import sys
import threading

import paho.mqtt.client as mqtt
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


LOCK = threading.Lock()


def connected(at):
    with LOCK:
        print(at, flush=True)


async def websockets(at):
    async for socket in connect(f"ws://{at}/", proxy=None):
        connected(at)
        try:
            async for _ in socket:
                pass
        except ConnectionClosed:
            continue


def paho(at):
    host, port = at.split(":")
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport="websockets")
    client.on_connect = lambda *_: connected(at)
    client.connect_async(host, int(port))
    client.loop_forever(retry_first_connection=True)


CLIENTS = {"websockets": lambda at: asyncio.run(websockets(at)), "paho-mqtt": paho}
for line in sys.stdin:
    threading.Thread(target=CLIENTS[sys.argv[1]], args=[line.strip()], daemon=True).start()
