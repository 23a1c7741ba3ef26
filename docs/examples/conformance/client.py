"""Echo client for one conformance case: wsserver conformance -- python client.py {url}"""

import sys

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

try:
    with connect(sys.argv[1], max_size=None) as connection:
        for message in connection:
            connection.send(message)
except (WebSocketException, OSError) as error:
    # Many cases must end like this: the server sends what a client has to reject.
    print(error)
