"use strict";

const CLIENT = `
import asyncio
import sys
from autobahn.asyncio.component import Component
from rounds import rounds

async def join():
    loop = asyncio.get_running_loop()
    component = Component(transports=[{"type": "websocket", "url": f"wss://{sys.argv[1]}/ws", "max_retries": 0}], realm="tide")
    joined = loop.create_future()

    @component.on_join
    async def on_join(session, details):
        joined.set_result(session)

    component.start(loop)
    return await asyncio.wait_for(joined, 20)

async def main():
    one, other = await join(), await join()
    heard = asyncio.Queue()
    await one.subscribe(heard.put_nowait, "tide.level")
    await one.register(lambda text: text.upper(), "tide.upper")
    async for text in rounds():
        other.publish("tide.level", text)
        assert await asyncio.wait_for(heard.get(), 10) == text
        assert await other.call("tide.upper", text) == text.upper()

asyncio.run(main())
`;

async function start(app) {
  const port = await app.port();
  const allow = { call: true, register: true, publish: true, subscribe: true };
  const worker = {
    type: "router",
    realms: [{ name: "tide", roles: [{ name: "anonymous", permissions: [{ uri: "", match: "prefix", allow }] }] }],
    transports: [{ type: "websocket", endpoint: { type: "tcp", interface: "127.0.0.1", port } }],
  };
  app.write("config.json", JSON.stringify({ version: 2, workers: [worker] }));
  app.start(app.bin("crossbar"), ["start", "--cbdir", app.work]);
  return app.listening(port);
}

module.exports = {
  title: "Crossbar.io",
  did: "a publication and a call (WAMP) between two clients of Autobahn",
  pip: ["crossbar==26.10.1"],
  tunnels: 2,
  start,
  open: (app) => app.client(CLIENT),
};
