// Play the scenarios with ws; reads them from the standard input, and prints the reports.
const WebSocket = require('ws')

const AT_ONCE = 45

// Return a report: how many messages came, and how the connection ended, or that it did not.
function show (open, code, messages) {
  const count = messages ? `, ${messages} message${messages > 1 ? 's' : ''}` : ''
  return open ? `open${count}${String(code) === '1000' ? '' : `; then ${code}`}` : `${code}${count}`
}

function play (url, quiet) {
  return new Promise(resolve => {
    const socket = new WebSocket(url, { handshakeTimeout: quiet * 1000 })
    let messages = 0
    let problem = ''
    let open = false
    let closing
    const idle = () => {
      open = true
      socket.close(1000)
      closing = setTimeout(() => socket.terminate(), 1000)
    }
    let timer = setTimeout(idle, quiet * 3000)
    const restart = () => { clearTimeout(timer); timer = setTimeout(idle, quiet * 1000) }
    socket.on('open', () => { restart(); socket.send('hello') })
    socket.on('message', () => { messages += 1; restart() })
    socket.on('unexpected-response', (request, response) => {
      problem = `status ${response.statusCode}`
      socket.terminate()
    })
    socket.on('error', error => { problem = problem || error.code || error.message })
    socket.on('close', code => {
      clearTimeout(timer)
      clearTimeout(closing)
      resolve(show(open, problem ? `${code} (${problem})` : code, messages))
    })
  })
}

async function main () {
  const chunks = []
  for await (const chunk of process.stdin) chunks.push(chunk)
  const given = JSON.parse(Buffer.concat(chunks))
  const reports = {}
  const waiting = [...given.scenarios]
  const work = async () => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      reports[one.target] = await play(`ws://127.0.0.1:${given.port}${one.target}`, given.quiet)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  console.log(JSON.stringify({ ws: reports }))
  process.exit(0)
}

main()
