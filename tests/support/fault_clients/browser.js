// Play the scenarios in a browser: `playAll` returns the reports.
// Return a report: how many messages came, and how the connection ended, or that it did not.
const show = (open, code, messages) => {
  const count = messages ? `, ${messages} message${messages > 1 ? 's' : ''}` : ''
  return open ? `open${count}${String(code) === '1000' ? '' : `; then ${code}`}` : `${code}${count}`
}

// `patience` is the number of seconds for the handshake; `quiet` is that without a message.
const play = (url, quiet, patience) => new Promise(resolve => {
  const socket = new WebSocket(url)
  socket.binaryType = 'arraybuffer'
  let messages = 0
  let open = false
  const idle = () => {
    if (socket.readyState === WebSocket.CONNECTING) {
      socket.onclose = null
      socket.close()
      resolve('connecting')
      return
    }
    open = true
    socket.close(1000)
    timer = setTimeout(() => { socket.onclose = null; resolve(show(open, 'closing', messages)) }, 5000)
  }
  let timer = setTimeout(idle, patience * 1000)
  const restart = () => { clearTimeout(timer); timer = setTimeout(idle, quiet * 1000) }
  socket.onopen = () => { restart(); socket.send('hello') }
  socket.onmessage = () => { messages += 1; restart() }
  socket.onclose = event => { clearTimeout(timer); resolve(show(open, event.code, messages)) }
})

const playAll = async given => {
  const reports = {}
  const url = one => `ws://127.0.0.1:${given.port}${one.target}`
  const waiting = given.scenarios.filter(one => !one.alone)
  const work = async () => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      reports[one.target] = await play(url(one), given.quiet, 3 * given.quiet)
    }
  }
  await Promise.all(Array.from({ length: 12 }, work))
  for (const one of given.scenarios.filter(one => one.alone)) {
    reports[one.target] = await play(url(one), given.quiet, given.quiet)
  }
  return reports
}
