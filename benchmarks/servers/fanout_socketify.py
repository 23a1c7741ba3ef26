"""Fan-out server: uWebSockets, called from Python through socketify, with the topics of uWebSockets."""

import arguments
from socketify import App, AppListenOptions, CompressOptions

options = arguments.read()
app = App()
common = {"compression": CompressOptions.DISABLED, "idle_timeout": 0, "max_backpressure": 4 * arguments.MAX_SIZE}
app.ws("/publish", {**common, "message": lambda _ws, message, opcode: app.publish("foo", message, opcode)})
app.ws("/*", {**common, "open": lambda ws: ws.subscribe("foo"), "message": lambda *_: None})
app.listen(AppListenOptions(port=options.port, host="127.0.0.1"), lambda _config: None)
app.run()
