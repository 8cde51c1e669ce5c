//! One writer, many readers: a writer publishes whole immutable values, a reader takes the newest without a lock.
//!
//! A slow reader skips values; it never makes the writer wait and never sees half of one.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

/// The writing end. There is one.
#[derive(Debug)]
pub struct Publisher<T> {
    value: Arc<ArcSwap<T>>,
    version: watch::Sender<u64>,
}

/// A reading end.
#[derive(Debug)]
pub struct Reader<T> {
    value: Arc<ArcSwap<T>>,
    version: watch::Receiver<u64>,
}

/// A publisher and its first reader, beginning with `initial`.
pub fn published<T>(initial: T) -> (Publisher<T>, Reader<T>) {
    let value = Arc::new(ArcSwap::from_pointee(initial));
    let (sender, receiver) = watch::channel(0);
    (Publisher { value: value.clone(), version: sender }, Reader { value, version: receiver })
}

impl<T> Publisher<T> {
    /// Replaces the value and wakes every waiting reader.
    pub fn publish(&self, value: Arc<T>) {
        self.value.store(value);
        self.version.send_modify(|version| *version += 1);
    }

    /// The newest value.
    pub fn load(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Another reader.
    pub fn reader(&self) -> Reader<T> {
        Reader { value: self.value.clone(), version: self.version.subscribe() }
    }
}

impl<T> Reader<T> {
    /// The newest value, without a lock. For short use: do not hold it across an await.
    pub fn peek(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// The newest value, to keep.
    pub fn load(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Waits until a value is published that this reader was not told of. `false`: the publisher is gone.
    /// Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.version.changed().await.is_ok()
    }

    /// Waits for a value that satisfies `holds`. `None`: the publisher is gone. Cancel-safe.
    pub async fn wait_for(&mut self, mut holds: impl FnMut(&T) -> bool) -> Option<Arc<T>> {
        loop {
            self.version.mark_unchanged();
            let value = self.load();
            if holds(&value) {
                return Some(value);
            }
            if !self.changed().await {
                return None;
            }
        }
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Reader { value: self.value.clone(), version: self.version.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_see_the_newest_value_and_are_woken() {
        let (publisher, mut reader) = published(1);
        publisher.publish(Arc::new(2));
        assert!(reader.changed().await);
        assert_eq!(*reader.load(), 2);
        let waiting = reader.wait_for(|value| *value == 3);
        publisher.publish(Arc::new(3));
        assert_eq!(waiting.await.as_deref(), Some(&3));
        drop(publisher);
        assert!(!reader.changed().await);
        assert_eq!(reader.wait_for(|value| *value == 4).await, None);
    }
}
