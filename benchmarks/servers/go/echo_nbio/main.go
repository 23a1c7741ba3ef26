// Echo server: Go with nbio, which reads with epoll instead of one goroutine per connection, on one core: the benchmark
// sets GOMAXPROCS=1.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

func main() {
	compression := flag.Bool("compression", false, "agree to permessage-deflate")
	flag.Parse()
	logging.SetLevel(logging.LevelError)
	upgrader := websocket.NewUpgrader()
	upgrader.EnableCompression(*compression)
	upgrader.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, message []byte) {
		c.EnableWriteCompression(*compression)
		c.WriteMessage(kind, message)
	})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { upgrader.Upgrade(w, r, nil) })
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp",
		Addrs:   []string{"127.0.0.1:" + flag.Arg(0)},
		MaxLoad: 20000,
		Handler: handler,
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}
