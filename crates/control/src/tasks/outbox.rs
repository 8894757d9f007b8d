//! Carries out the messages that transactions left: whom to wake. A wake that comes twice does no harm.

use crate::{Control, Result, wakes::Wake};

/// Most messages taken at once.
const MESSAGES_MAX: u32 = 200;
/// How often a message is tried that this program does not understand, before it is given up.
const ATTEMPTS_MAX: u32 = 10;

impl Control {
    /// One pass over the messages that wait.
    pub(crate) async fn outbox_pass(&self) -> Result<()> {
        let messages = self.store().outbox_take(MESSAGES_MAX).await?;
        if messages.is_empty() {
            return Ok(());
        }
        let tx = self.store().begin_upkeep().await?;
        for message in &messages {
            if let Some(wake) = Wake::of_topic(&message.topic) {
                self.wakes().wake(wake);
                tx.outbox_done(message.id).await?;
            } else if message.attempts < ATTEMPTS_MAX {
                // A newer copy of this program, during an upgrade, may know it.
                tx.outbox_failed(message.id).await?;
            } else {
                tracing::error!(outbox.topic = message.topic, "a message that nobody understands was given up");
                tx.outbox_done(message.id).await?;
            }
        }
        tx.commit_observation().await?;
        if messages.len() == MESSAGES_MAX as usize {
            self.wakes().outbox.notify_one();
        }
        Ok(())
    }
}
