//! `gregal up`: the whole cloud without the journey.

use anyhow::Result;
use clap::Args;

use crate::{
    cloud::{Cloud, OperatorKey, Shutdown},
    settings::{self, SettingsArgs},
};

/// Start the whole cloud on this machine: control plane, one site, local engine, embedded store
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Make one more operator's key and print it: the way back in when the first one was lost
    #[arg(long)]
    new_operator_key: bool,
}

/// Starts and serves until told to stop.
pub(crate) async fn run(args: UpArgs) -> Result<()> {
    let settings = settings::load(&args.settings, std::env::vars())?.settings;
    crate::logs::start(&settings.log)?;
    let data_dir = settings.data_dir.display().to_string();
    let operator = if args.new_operator_key { OperatorKey::OneMore } else { OperatorKey::ShownOnce };
    let mut shutdown = Shutdown::listen()?;
    let cloud = Cloud::start(settings, operator).await?;
    println!("console  {}/console", cloud.control_url);
    println!("api      {}/api/v1", cloud.control_url);
    println!("gateway  {}/v1", cloud.site_url);
    println!("data     {data_dir}");
    match &cloud.operator_secret {
        Some(secret) => println!("admin    {secret}   (the operator's key; it is shown only now)"),
        None => {
            println!("admin    the operator's key was shown at the first start (lost: start with --new-operator-key)");
        }
    }
    for missing in &cloud.protections_missing {
        println!("warning  this machine cannot isolate tenants fully: {missing}");
    }
    println!("\ntry, in another terminal:");
    println!(
        "  export GREGAL_URL={} GREGAL_KEY={}",
        cloud.control_url,
        cloud.operator_secret.as_deref().unwrap_or("gk_...")
    );
    println!("  gregal organisation create \"My Lab\" --country FR --credit-eur 25");
    println!("  gregal site list");
    println!("  gregal price list");
    shutdown.asked().await;
    eprintln!("draining ...");
    cloud.stop().await
}
