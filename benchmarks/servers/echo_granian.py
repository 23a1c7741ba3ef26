"""Echo server: granian on uvloop, with its own interface RSGI."""

from pathlib import Path

import arguments
from granian import Granian
from granian.constants import Interfaces, Loops


class Application:
    """The application of the only worker."""

    async def __rsgi__(self, _scope, protocol):
        """Echo the messages of one connection. The kinds of a message are 0 (closed), 1 (binary) and 2 (text)."""
        transport = await protocol.accept()
        while (message := await transport.receive()).kind:
            if message.kind == 2:
                await transport.send_str(message.data)
            else:
                await transport.send_bytes(message.data)
        protocol.close()


application = Application()

if __name__ == "__main__":
    options = arguments.read()
    Granian(
        "echo_granian:application",
        address="127.0.0.1",
        port=options.port,
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        workers=1,
        ssl_cert=options.cert and Path(options.cert),
        ssl_key=options.key and Path(options.key),
        log_enabled=False,
    ).serve()
