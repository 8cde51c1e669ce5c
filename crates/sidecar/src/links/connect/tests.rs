use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::super::choice::tests::experience_at;
use super::*;

const PATIENCE: Patience = Patience { step: Duration::from_millis(50), total: Duration::from_secs(5) };

/// An address of loopback that nobody answers at: its queue of connections is full.
async fn silent() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(50), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    (listener, waiting)
}

async fn race(addresses: &[SocketAddr]) -> (Option<SocketAddr>, u64, Vec<Arc<Experience>>) {
    let endpoints: Vec<_> = addresses.iter().map(|address| experience_at(*address)).collect();
    let mut queue = endpoints.iter();
    let (connected, failed) = first(|| queue.next().map(Experience::begin), PATIENCE).await;
    (connected.map(|(stream, _)| stream.peer_addr().unwrap()), failed, endpoints)
}

#[tokio::test]
async fn one_that_refuses_and_one_that_is_silent_are_passed_and_remembered() {
    let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = (good.local_addr().unwrap(), good);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (silent, _waiting) = silent().await;
    let (reached, failed, endpoints) = race(&[closed, silent.local_addr().unwrap(), good.0]).await;
    assert_eq!((reached, failed), (Some(good.0), 2));
    let out: Vec<bool> = endpoints.iter().map(|endpoint| endpoint.out_for(Instant::now()).is_some()).collect();
    assert_eq!(out, [true, true, false]);
    let open: Vec<usize> = endpoints.iter().map(|endpoint| endpoint.open()).collect();
    assert_eq!(open, [0, 0, 0], "nothing stays counted after the race and its connection");
}

#[tokio::test]
async fn when_all_refuse_it_says_so_at_once() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let began = Instant::now();
    let (reached, failed, _) = race(&[closed]).await;
    assert_eq!((reached, failed), (None, 1));
    assert!(began.elapsed() < PATIENCE.total);
}

#[tokio::test]
async fn sockets_give_up_on_a_silent_peer_and_probe_an_idle_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = experience_at(listener.local_addr().unwrap());
    let (_, _, stream) = connect(endpoint.begin()).await;
    let stream = stream.unwrap();
    let socket = SockRef::from(&stream);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
}
