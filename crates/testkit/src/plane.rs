//! A plane in a runtime of its own, so that it can be ended like a killed process: at once, with nothing said or saved.

use std::{future::Future, net::SocketAddr};

use axum::Router;
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

/// A running plane.
#[derive(Debug)]
pub struct Plane {
    /// Where it answers.
    pub url: String,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
    runtime: Option<Runtime>,
}

/// A runtime for a plane that is about to start.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A free port of loopback.
pub(crate) fn listener() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

impl Plane {
    /// Serves a router and carries out its loops. `run` is given what resolves when the plane shall stop.
    pub fn serve<F>(
        runtime: Runtime,
        listener: std::net::TcpListener,
        url: String,
        router: Router,
        run: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
        });
        let running = run(stopped);
        runtime.spawn(async move {
            running.await;
            // Nobody may wait for it any more.
            let _ = done.send(());
        });
        Self { url, stop: Some(stop), ended: Some(ended), runtime: Some(runtime) }
    }

    /// Ends it at once, with nothing said and nothing saved.
    pub fn crash(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Stops it as Ctrl-C would.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.ended.take().unwrap().await.unwrap();
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
