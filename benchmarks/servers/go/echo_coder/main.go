// Echo server: Go with coder/websocket, on one core: the benchmark sets GOMAXPROCS=1.
package main

import (
	"flag"
	"log"
	"net/http"

	"github.com/coder/websocket"
)

func main() {
	compression := flag.Bool("compression", false, "agree to permessage-deflate")
	cert := flag.String("cert", "", "certificate")
	key := flag.String("key", "", "private key")
	flag.Parse()
	options := websocket.AcceptOptions{}
	if *compression {
		options.CompressionMode = websocket.CompressionContextTakeover
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		connection, err := websocket.Accept(w, r, &options)
		if err != nil {
			return
		}
		defer connection.CloseNow()
		connection.SetReadLimit(2 << 20)
		for {
			kind, message, err := connection.Read(r.Context())
			if err != nil || connection.Write(r.Context(), kind, message) != nil {
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
