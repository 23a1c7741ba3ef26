"""
The program `wsserver`, which at its end prints how many messages it has received and sent on each path.

    python counting_server.py serve --port 8080
"""

import json
import sys
from collections import Counter

from wsserver.cli.main import main
from wsserver.wire.protocol import ServerProtocol

RECEIVED = Counter()


class Counting:
    """Counts the messages of each connection that has closed."""

    log_closed = ServerProtocol._log_closed

    @staticmethod
    def count(connection):
        """Log the end of a connection, and count its messages."""
        RECEIVED[connection._shown_path] += connection.messages_in
        Counting.log_closed(connection)


if __name__ == "__main__":
    ServerProtocol._log_closed = Counting.count
    sys.argv[0] = "wsserver"
    # The process ends by the signal that has stopped it, so nothing runs after this event.
    from twisted.internet import reactor

    reactor.addSystemEventTrigger("after", "shutdown", lambda: print("received", json.dumps(RECEIVED), flush=True))
    main(sys.argv[1:])
