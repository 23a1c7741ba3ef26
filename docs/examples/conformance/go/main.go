// Echo client for one conformance case: wsserver conformance -- ./client {url}
package main

import (
	"fmt"
	"os"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

func main() {
	dialer := websocket.Dialer{EnableCompression: true}
	connection, _, err := dialer.Dial(os.Args[1], nil)
	if err != nil {
		// Many cases must end like this: the server sends what a client has to reject.
		fmt.Println(err)
		return
	}
	defer connection.Close()
	for {
		kind, message, err := connection.ReadMessage()
		if err != nil {
			fmt.Println(err)
			return
		}
		if kind == websocket.TextMessage && !utf8.Valid(message) {
			// This library leaves the check to the application.
			code := websocket.FormatCloseMessage(websocket.CloseInvalidFramePayloadData, "")
			connection.WriteMessage(websocket.CloseMessage, code)
			return
		}
		if err := connection.WriteMessage(kind, message); err != nil {
			fmt.Println(err)
			return
		}
	}
}
