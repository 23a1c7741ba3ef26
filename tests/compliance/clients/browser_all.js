// Runs all cases with the WebSocket of a browser, from a page in it.
async ([server, form, agent]) => {
  const run = (url, isEcho) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    let last = '';
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (event) => {
      last = event.data;
      if (isEcho) socket.send(event.data);
    };
    socket.onclose = () => resolve(last);
  });
  const count = Number(await run(`${server}/getCaseCount`, false));
  for (let number = 1; number <= count; number += 1) {
    const path = form === 'autobahn' ? `/runCase?case=${number}&agent=${agent}` : `/case/${number}?agent=${agent}`;
    await run(server + path, true);
  }
  await run(`${server}/updateReports?agent=${agent}`, false);
}
