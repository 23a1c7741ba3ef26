//! Echo server: Rust with tokio-tungstenite, on one thread, as the library's example `echo-server`.

use futures_util::{future, StreamExt, TryStreamExt};
use tokio::net::{TcpListener, TcpStream};

async fn echo(stream: TcpStream) {
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (write, read) = socket.split();
    let messages = read.try_filter(|message| future::ready(message.is_text() || message.is_binary()));
    let _ = messages.forward(write).await;
}

async fn serve(port: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).expect("usage: echo_tungstenite PORT");
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(&port))
}
