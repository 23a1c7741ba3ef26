"""Echo server: uWebSockets, called from Python through socketify."""

import arguments
from socketify import App, AppListenOptions, AppOptions, CompressOptions

options = arguments.read()
app = App(AppOptions(key_file_name=options.key, cert_file_name=options.cert) if options.cert else None)
app.ws(
    "/*",
    {
        "compression": CompressOptions.SHARED_COMPRESSOR if options.compression else CompressOptions.DISABLED,
        "max_payload_length": arguments.MAX_SIZE,
        "max_backpressure": 4 * arguments.MAX_SIZE,
        # Its pings are sent shortly before this time without a message has passed.
        "idle_timeout": int(options.ping or 0) + 5 if options.ping else 0,
        "message": lambda ws, message, opcode: ws.send(message, opcode, options.compression),
    },
)
app.listen(AppListenOptions(port=options.port, host="127.0.0.1"), lambda _config: None)
app.run()
