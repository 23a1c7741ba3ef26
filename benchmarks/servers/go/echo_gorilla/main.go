// Go with gorilla/websocket, on one core: GOMAXPROCS=1 is set by whoever starts it.
package main

import (
	"flag"
	"log"
	"net/http"

	"github.com/gorilla/websocket"
)

func main() {
	compression := flag.Bool("compression", false, "agree to permessage-deflate")
	cert := flag.String("cert", "", "certificate")
	key := flag.String("key", "", "private key")
	flag.Parse()
	upgrader := websocket.Upgrader{EnableCompression: *compression}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		connection, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer connection.Close()
		for {
			kind, message, err := connection.ReadMessage()
			if err != nil || connection.WriteMessage(kind, message) != nil {
				return
			}
		}
	})
	address := "127.0.0.1:" + flag.Arg(0)
	if *cert != "" {
		log.Fatal(http.ListenAndServeTLS(address, *cert, *key, nil))
	}
	log.Fatal(http.ListenAndServe(address, nil))
}
