//! `gregal balance` and `gregal ledger`: where money stands and how it came there.

use clap::Subcommand;
use gregal_api::invoice::{BalanceView, PostingView};
use gregal_core::ledger::PostingKind;

use crate::{
    context::Cx,
    failure::Failure,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum BalanceVerb {
    /// Read what is available, held and used
    Show,
}

#[derive(Debug, Subcommand)]
pub enum LedgerVerb {
    /// List every movement of money
    List,
}

pub(crate) async fn run_balance(cx: &mut Cx<'_>, verb: BalanceVerb) -> Result<(), Failure> {
    let BalanceVerb::Show = verb;
    let organisation = cx.organisation().await?;
    let balance: BalanceView = cx.read("balance_read", &[&organisation]).await?;
    cx.printer().data(&balance, |balance| {
        Facts::new()
            .with("available", words::euro(balance.available_nano))
            .with("held", words::euro(balance.held_nano))
            .with("used", words::euro(balance.accrued_nano))
            .text()
    })
}

pub(crate) async fn run_ledger(cx: &mut Cx<'_>, verb: LedgerVerb) -> Result<(), Failure> {
    let LedgerVerb::List = verb;
    let organisation = cx.organisation().await?;
    let all: Vec<PostingView> = cx.list("postings_list", &[&organisation]).await?;
    cx.show_list("postings", &all, |all| {
        let mut table = Table::new(["at", "kind", "moves", "reference", "id"]);
        for one in all {
            let leg = |leg: &gregal_core::ledger::Leg| {
                let sign = if leg.amount.is_negative() { "" } else { "+" };
                format!("{} {sign}{}", leg.account, words::euro(leg.amount.get()))
            };
            let legs: Vec<String> = one.legs.iter().map(leg).collect();
            table.row([
                one.at.to_string(),
                kind(one.kind).into(),
                legs.join(", "),
                one.reference.clone(),
                one.id.clone(),
            ]);
        }
        table
    })
}

const fn kind(kind: PostingKind) -> &'static str {
    match kind {
        PostingKind::Credit => "credit",
        PostingKind::Hold => "hold",
        PostingKind::Charge => "charge",
        PostingKind::Release => "release",
        PostingKind::Correction => "correction",
        PostingKind::Invoice => "invoice",
    }
}
