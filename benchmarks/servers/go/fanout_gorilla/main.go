// Go with gorilla/websocket, a message prepared once; on one core: GOMAXPROCS=1 is set by whoever starts it.
package main

import (
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
)

func main() {
	upgrader := websocket.Upgrader{}
	subscribers := map[*websocket.Conn]bool{}
	var lock sync.Mutex
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		connection, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer connection.Close()
		if r.URL.Path != "/publish" {
			lock.Lock()
			subscribers[connection] = true
			lock.Unlock()
		}
		for {
			kind, message, err := connection.ReadMessage()
			if err != nil {
				lock.Lock()
				delete(subscribers, connection)
				lock.Unlock()
				return
			}
			prepared, err := websocket.NewPreparedMessage(kind, message)
			if err != nil {
				return
			}
			lock.Lock()
			for one := range subscribers {
				one.WritePreparedMessage(prepared)
			}
			lock.Unlock()
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
