//! What the tour ends with: the same facts as data for programs and as words for people.

use gregal_api::usage::UsageSum;
use serde::Serialize;

/// The outcome of a tour. Field names are a promise to scripts.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Whether every step held.
    pub ok: bool,
    /// The step that did not hold, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    pub training: Training,
    pub chat: Chat,
    pub residency: Residency,
    /// Usage summed by meter and item.
    pub usage: Vec<UsageSum>,
    pub invoice: Invoice,
    pub audit: Audit,
    /// Where the console is.
    pub console_url: String,
    /// Where the OpenAI-compatible gateway is.
    pub gateway_url: String,
    /// Where everything is kept.
    pub data_dir: String,
}

/// How the training went.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Training {
    pub job: String,
    pub model: String,
    /// Share of held-out answers that were exact, 0 to 1; none if nothing was held out.
    pub heldout_exact: Option<f64>,
    pub heldout_asked: u64,
    /// From ready to done, as metered.
    pub seconds: f64,
    pub tokens: u64,
    pub tokens_per_s: f64,
    pub steps: u64,
    pub loss: f64,
    pub flop: u64,
    pub kwh: String,
    pub energy_method: String,
    pub dataset_digest: String,
}

/// What was asked of the served model and what came back.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Chat {
    pub question: String,
    pub answer: String,
    /// The right answer, where it is known.
    pub expected: Option<String>,
    /// Questions asked through the gateway.
    pub asked: u32,
    /// Answers that were exact.
    pub exact: u32,
    /// Chunks the streamed answer came in.
    pub chunks: u32,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

/// The placement that was refused.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Residency {
    /// The rule that refused it.
    pub refused_by: String,
    /// The site that was refused.
    pub site: String,
    /// Why, in words.
    pub because: String,
}

/// The draft invoice, and the same recomputed from raw records.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Invoice {
    pub net_eur: String,
    pub vat_eur: String,
    pub vat_percent: String,
    pub total_eur: String,
    /// The total, computed here from the usage records and the price list alone.
    pub recomputed_eur: String,
    pub lines: usize,
    pub records: usize,
}

/// The audit log as the tenant sees it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit {
    pub entries: u64,
    /// Every entry's inclusion was proved against the signed checkpoint.
    pub verified: bool,
    /// Entries in the whole log, as the checkpoint says.
    pub log_size: u64,
}

impl Summary {
    /// The summary in words.
    pub(crate) fn words(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::from("\nWhat happened\n");
        let mut line = |name: &str, words: String| {
            let _ = writeln!(text, "  {name:<10} {words}");
        };
        let training = &self.training;
        let heldout = match training.heldout_exact {
            Some(share) => format!("{:.1} % of {} held-out answers exact", share * 100.0, training.heldout_asked),
            None => "nothing held out".into(),
        };
        line(
            "trained",
            format!(
                "{} in {:.1} s, {:.0} tokens/s, loss {:.4}; {heldout}",
                training.model, training.seconds, training.tokens_per_s, training.loss
            ),
        );
        line("answered", format!("\"{}\" -> \"{}\"", self.chat.question, self.chat.answer));
        line("refused", format!("{} by {}", self.residency.site, self.residency.refused_by));
        for sum in &self.usage {
            let words = format!(
                "{} {} of {} ({}, {} records)",
                sum.quantity,
                sum.unit,
                sum.meter.as_str(),
                sum.item,
                sum.records
            );
            line("used", words);
        }
        line(
            "invoice",
            format!(
                "{} EUR with {} % VAT; recomputed from raw records: {} EUR",
                self.invoice.total_eur, self.invoice.vat_percent, self.invoice.recomputed_eur
            ),
        );
        line(
            "audit",
            format!(
                "{} entries, {}",
                self.audit.entries,
                if self.audit.verified { "every one proved against the signed checkpoint" } else { "NOT verified" }
            ),
        );
        text
    }
}
